"""Who has the processors first: event loops, then engines and trainings, then what computes in idle time only."""

import contextlib
import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

from django.conf import settings

# Above what a process begins with, in the system's own steps of niceness.
ENGINES = 5
BACKGROUND = 10
NICEST = 19
# Seconds. Linux's own slice, 1.4 ms of two processors, ends within a batch, and then who is last has a turn of 4 ms.
FIRST_SLICE, LAST_SLICE = 3e-3, 0.1
# The number of sched_setattr(2), which C libraries have no function for, and what it takes: its size, policy, flags,
# niceness, priority, slice in nanoseconds, and two times that are not for us.
SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
ATTRIBUTES = "<IIQiIQQQ"
# Whether there is a policy for what computes in idle time only, and the system says who waits for a processor.
WAITS = Path("/proc/thread-self/schedstat")
IDLE_TIME = sys.platform == "linux" and WAITS.exists()


def give_way(steps: int = ENGINES) -> None:
    """Lets the thread that calls, and what it starts, come after others that want the processors.

    An event loop takes a fraction of a millisecond for a request, and an engine keeps a processor for several: with
    equal rights a loop that wakes up waits for the end of the engine's slice. Only Linux has a niceness of each thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, min(NICEST, os.getpriority(os.PRIO_PROCESS, 0) + steps))


def keep_on() -> None:
    """Has the thread that calls compute as any program does, in slices that are long enough for a short batch."""
    _ask_for_slices(FIRST_SLICE)


def give_way_to_all(processor: int | None = None) -> None:
    """Lets the thread that calls compute only while nothing else wants to; on one `processor`, if it is given one.

    What is nicer is left alone until the clock's next tick, up to 4 ms; what computes in idle time only is not. Where
    the system forbids it, the thread is nicer.
    """
    give_way()
    _ask_for_slices(LAST_SLICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        if processor is not None:
            os.sched_setaffinity(0, {processor})


def _ask_for_slices(seconds: float) -> None:
    """Asks Linux 6.12 or later to let the thread that calls finish so long once it has a processor."""
    number = SET_ATTRIBUTES.get(platform.machine())
    if number is not None:
        size, niceness = struct.calcsize(ATTRIBUTES), os.getpriority(os.PRIO_PROCESS, 0)
        asked = struct.pack(ATTRIBUTES, size, os.SCHED_OTHER, 0, niceness, 0, int(seconds * 1e9), 0, 0)
        _C_LIBRARY.syscall(number, 0, asked, 0)


def waits() -> tuple[float, float]:
    """How long the thread that calls has computed so far, and how long it has waited for a processor, in seconds."""
    computed, waited, _ = WAITS.read_bytes().split()
    return int(computed) / 1e9, int(waited) / 1e9


def engine_processors(threads: int) -> list[int] | list[None]:
    """A processor for each thread of this process that computes in idle time only; none where the system places them.

    Linux does not spread what computes in idle time only: two such threads may share a processor for tens of
    milliseconds while the other is idle. So they are spread here, if those of all processes have every processor.
    """
    processes = settings.INFERENCE_PROCESSES
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if threads * processes < len(allowed) or not allowed:
        return [None] * threads
    first = settings.INFERENCE_PROCESS
    return [allowed[(first + number * processes) % len(allowed)] for number in range(threads)]


_C_LIBRARY = ctypes.PyDLL(None)
