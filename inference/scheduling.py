"""Engine threads: a free one takes the next batch of the next version that has work, versions in turn."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from inference.batching import Queue, Work


class Lane(Protocol):
    """A version's queue and what runs its batches."""

    queue: Queue

    def run(self, batch: list[Work]) -> None: ...


Finish = Callable[[Lane, list[Work]], None]


class EngineThreads:
    """A few threads over many lanes; each lane gets one batch a turn, so that none starves another."""

    def __init__(self, *, threads: int, finish: Finish) -> None:
        self._finish = finish
        self._ready: deque[Lane] = deque()
        self._waiting: set[int] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def announce(self, lane: Lane) -> None:
        """Says that the lane has work."""
        with self._wake:
            if id(lane) not in self._waiting:
                self._waiting.add(id(lane))
                self._ready.append(lane)
                self._wake.notify()

    def stop(self) -> None:
        """Ends the threads after the batches they are at."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (lane := self._next()) is not None:
            batch = lane.queue.take(time.monotonic())
            if lane.queue:
                self.announce(lane)
            if batch:
                lane.run(batch)
                self._finish(lane, batch)

    def _next(self) -> Lane | None:
        with self._wake:
            while not self._ready and not self._stopping:
                self._wake.wait()
            if self._stopping:
                return None
            lane = self._ready.popleft()
            self._waiting.discard(id(lane))
            return lane
