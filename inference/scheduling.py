"""Engine threads, fair over tenants by the compute time that each has had.

A free thread takes the next batch of the tenant that has used the least compute time among those that wait. A tenant
that comes after a rest begins where they are, so it neither waits for who asks without end nor makes up for its rest.
While several tenants ask, batches are short.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inference import batching
from inference.queueing import Queue
from inference.work import Work
from modelhub import priority


class Lane(Protocol):
    """A version's queue and what runs its batches; `was_alone` says that the last one was a lone request."""

    tenant_id: str
    queue: Queue
    was_alone: bool

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None: ...


# So long after a tenant was served, batches of others are short: it may come again.
COMPANY_SECONDS = 1.0
Finish = Callable[[Lane, list[Work]], None]


@dataclass(slots=True)
class Share:
    """What a tenant has used, in compute seconds, its lanes that wait, and when it was served last."""

    used: float
    lanes: deque[Lane] = field(default_factory=deque)
    served: int = 0


class Turns:
    """The order in which lanes are served. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}
        self._waiting: set[str] = set()
        self._announced: set[int] = set()
        self._least = 0.0
        self._count = 0

    def __len__(self) -> int:
        return len(self._announced)

    def add(self, lane: Lane) -> bool:
        """Says that the lane has work; False if that is known."""
        if id(lane) in self._announced:
            return False
        self._announced.add(id(lane))
        share = self._shares.get(lane.tenant_id)
        if share is None:
            share = self._shares[lane.tenant_id] = Share(used=self._least)
        if not share.lanes:
            share.used = max(share.used, self._least)
            self._waiting.add(lane.tenant_id)
        share.lanes.append(lane)
        return True

    def next(self) -> Lane | None:
        """The lane whose turn it is; among tenants that have used as much, the one that was served longest ago."""
        if not self._waiting:
            return None
        tenant_id = min(self._waiting, key=self._order)
        share = self._shares[tenant_id]
        self._least = share.used
        self._count += 1
        share.served = self._count
        lane = share.lanes.popleft()
        self._announced.discard(id(lane))
        if not share.lanes:
            self._waiting.discard(tenant_id)
        return lane

    def charge(self, tenant_id: str, seconds: float) -> None:
        """Adds compute time to what a tenant has used; when nobody waits, everything is forgotten."""
        share = self._shares.get(tenant_id)
        if share is not None:
            share.used += seconds
        if not self._waiting:
            self._shares.clear()
            self._least = 0.0

    def _order(self, tenant_id: str) -> tuple[float, int]:
        share = self._shares[tenant_id]
        return share.used, share.served


class Company:
    """Whether several tenants have been served lately; two threads that ask at once may miss one another."""

    def __init__(self) -> None:
        self._last = ""
        self._until = 0.0

    def served(self, tenant_id: str, now: float) -> bool:
        """Notes who is served now, and says whether another one was a moment ago."""
        if tenant_id != self._last:
            self._until = now + COMPANY_SECONDS if self._last else 0.0
            self._last = tenant_id
        return now < self._until


class EngineThreads:
    """A few threads over many lanes; those that are given `processors`, one each, stay there."""

    def __init__(self, *, threads: int, finish: Finish, processors: Sequence[int] = ()) -> None:
        self._finish = finish
        self._turns = Turns()
        self._company = Company()
        self._busy = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, args=(processor,), name=f"engine-{number}", daemon=True)
            for number, processor in enumerate(processors or [None] * threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._busy and not len(self._turns)

    def announce(self, lane: Lane) -> None:
        """Says that the lane has work."""
        with self._wake:
            if self._turns.add(lane):
                self._wake.notify()

    def stop(self) -> None:
        """Ends the threads after everything that waits has run."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, processor: int | None) -> None:
        priority.engine_gives_way(processor)
        while (lane := self._next()) is not None:
            started = time.monotonic()
            short = self._company.served(lane.tenant_id, started)
            batch = lane.queue.take(started, short=short)
            if lane.queue.ready:
                self.announce(lane)
            if batch:
                alone = len(batch) == 1 and lane.was_alone and self._busy == 1 and not len(self._turns)
                lane.run(batch, alone=alone, short=short)
            ended = batching.ended(batch)
            # Before it is idle, else the loop would take what is left; and what was too much beside this may run now.
            if len(ended) < len(batch) or lane.queue.ready:
                self.announce(lane)
            with self._wake:
                self._busy -= 1
                self._turns.charge(lane.tenant_id, time.monotonic() - started)
            if ended:
                self._finish(lane, ended)
            del lane, batch, ended  # a thread that waits holds no version in memory

    def _next(self) -> Lane | None:
        with self._wake:
            while (lane := self._turns.next()) is None:
                if self._stopping:
                    return None
                self._wake.wait()
            self._busy += 1
            return lane
