"""Batches made while the step before them runs."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from modelhub.recipes.learning import Batch

AHEAD = 2
SECONDS_BETWEEN_LOOKS = 0.1


@contextlib.contextmanager
def fetched(batches: Iterator[Batch], *, most: int) -> Iterator[Iterator[Batch]]:
    """The first `most` batches, made by a thread that is at most two ahead; it has ended when this has.

    What making one raises is raised where the batch is asked for.
    """
    made: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(AHEAD)
    stopping = threading.Event()
    thread = threading.Thread(target=_make, args=(batches, most, made, stopping), name="batches", daemon=True)
    thread.start()
    try:
        yield _handed_over(made)
    finally:
        stopping.set()
        thread.join()


def _make(batches: Iterator[Batch], most: int, made: "queue.Queue[Any]", stopping: threading.Event) -> None:
    try:
        for _ in range(most):
            if stopping.is_set() or not _put(made, (next(batches), None), stopping):
                return
    except StopIteration:
        _put(made, (None, RuntimeError("The learner has fewer batches than it says an epoch has.")), stopping)
    except BaseException as error:
        _put(made, (None, error), stopping)


def _put(made: "queue.Queue[Any]", what: object, stopping: threading.Event) -> bool:
    """Waits for room, and gives up when nobody wants it any more."""
    while not stopping.is_set():
        with contextlib.suppress(queue.Full):
            made.put(what, timeout=SECONDS_BETWEEN_LOOKS)
            return True
    return False


def _handed_over(made: "queue.Queue[Any]") -> Iterator[Batch]:
    while True:
        batch, error = made.get()
        if error is not None:
            raise error
        yield batch
