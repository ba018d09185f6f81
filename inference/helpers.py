"""The threads that help with a lone request: on other processors than the thread that they help."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

NAME = "lone-helper"  # at most 15 bytes are kept
TASKS = Path("/proc/self/task")


class Helpers:
    """The threads of an engine that help whoever runs it.

    A virtual machine that lets its processors sleep may wake a helper where the thread runs that wakes it: the two have
    one processor by turns while the other is idle.
    """

    def __init__(self) -> None:
        self.threads: list[int] = []
        self._processors = os.sched_getaffinity(0)
        self._away_from = -1

    def keep_away(self) -> None:
        """Keeps them from the processor of the thread that calls; while that stays where it is this costs nothing.

        Where the other processors were taken from this process meanwhile, they stay where they are.
        """
        own = _processor()
        if own == self._away_from:
            return
        self._away_from = own
        with contextlib.suppress(OSError):
            for thread in self.threads:
                os.sched_setaffinity(thread, self._processors - {own})


@contextlib.contextmanager
def noted() -> Iterator[Helpers | None]:
    """Finds the threads that the block starts; nothing where there is one processor, or no way to tell them apart."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        yield None
        return
    helpers = Helpers()
    before = _named()
    own = TASKS / str(threading.get_native_id()) / "comm"
    name = own.read_text().strip()
    own.write_text(NAME)  # which threads inherit
    try:
        yield helpers
    finally:
        own.write_text(name)
        helpers.threads = sorted(_named() - before)


def _named() -> set[int]:
    """The threads of this process that have the name; one may end while it is asked."""
    found = set()
    for task in TASKS.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() == NAME:
                found.add(int(task.name))
    return found


def _processor() -> int:
    """Where the thread that calls is just now."""
    return int(_C_LIBRARY.sched_getcpu())


_C_LIBRARY = ctypes.PyDLL(None)
