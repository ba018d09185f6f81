"""Engine threads, fair over tenants by the compute time that each has had.

A free thread takes the next batch of the tenant that has used the least compute time among those that wait. A tenant
that comes after a rest begins where they are, so it neither waits for who asks without end nor makes up for its rest.
While several tenants ask, batches are short, and who had more than its even share computes after the others.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from inference import batching
from inference.company import Company, Hunger, Rank
from inference.neighbours import Neighbours
from inference.queueing import Queue
from inference.work import Work
from modelhub import priority


class Lane(Protocol):
    """A version's queue and what runs its batches; `was_alone` says that the last one was a lone request."""

    tenant_id: str
    queue: Queue
    was_alone: bool

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None: ...


# Who is served without the threads again and again is noted so often.
PASSED_SECONDS = 0.05
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

    @property
    def waiting(self) -> Iterable[str]:
        """The tenants that have lanes here."""
        return self._waiting

    def next(self, tenants: Iterable[str]) -> Lane | None:
        """The lane whose turn it is, of some tenants that wait.

        Among tenants that have used as much, the one that was served longest ago is the next.
        """
        tenant_id = min(tenants, key=self._order, default=None)
        if tenant_id is None:
            return None
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


class EngineThreads:
    """A few threads of each rank over many lanes.

    Of one lane no more batches run at a time than there are threads of a rank, though its rank may change meanwhile:
    an engine may be in memory once for each of them.
    """

    def __init__(self, *, threads: int, finish: Finish, neighbours: Neighbours | None = None) -> None:
        self._finish = finish
        self._turns = Turns()
        self._most = threads
        self._company = Company(threads, neighbours=neighbours, ranks=priority.IDLE_TIME)
        self._busy = 0
        self._running: Counter[int] = Counter()
        self._passed, self._pass_again = "", 0.0
        self._lock = threading.Lock()
        self._wake = {rank: threading.Condition(self._lock) for rank in Rank}
        self._stopping = False
        ranks = list(Rank) if priority.IDLE_TIME else [Rank.COMMON]
        self._threads = [
            threading.Thread(target=self._work, args=(rank, processor), name=f"{rank.name}-{number}", daemon=True)
            for rank in ranks
            for number, processor in enumerate(priority.engine_processors(threads))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._busy and not len(self._turns)

    def announce(self, lane: Lane) -> None:
        """Says that the lane has work."""
        with self._lock:
            self._announce(lane)

    def _announce(self, lane: Lane) -> None:
        if self._running[id(lane)] < self._most and self._turns.add(lane):
            self._wake[self._company.rank(lane.tenant_id, time.monotonic())].notify()

    def passed_by(self, tenant_id: str, now: float) -> None:
        """Says that a tenant was served without these threads: it is company for those that have work for them."""
        if tenant_id != self._passed or now >= self._pass_again:
            self._passed, self._pass_again = tenant_id, now + PASSED_SECONDS
            with self._lock:
                self._company.served(tenant_id, now)

    def stop(self) -> None:
        """Ends the threads after everything that waits has run."""
        with self._lock:
            self._stopping = True
            for waiting in self._wake.values():
                waiting.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, rank: Rank, processor: int | None) -> None:
        hunger = _stand(rank, processor)
        while (lane := self._next(rank)) is not None:
            started = time.monotonic()
            short = self._company.several
            batch = lane.queue.take(started, short=short, among=self._free_with_this())
            if lane.queue.ready:
                self.announce(lane)
            if batch:
                alone = len(batch) == 1 and lane.was_alone and self._busy == 1 and not len(self._turns)
                lane.run(batch, alone=alone and rank is not Rank.LAST, short=short)
            ended = batching.ended(batch)
            self._ran(lane, started, left=len(ended) < len(batch), starves=hunger is not None and hunger.starves())
            if ended:
                self._finish(lane, ended)
            del lane, batch, ended  # a thread that waits holds no version in memory

    def _next(self, rank: Rank) -> Lane | None:
        with self._lock:
            while (lane := self._turns.next(self._tenants(rank))) is None:
                if self._stopping:
                    return None
                self._wake[rank].wait()
            self._company.served(lane.tenant_id, time.monotonic())
            self._busy += 1
            self._running[id(lane)] += 1
            if rank is Rank.LAST and len(self._turns):
                self._wake[rank].notify()  # one that was woken may have found no processor left
            return lane

    def _free_with_this(self) -> int:
        """How many threads have nothing to do but what waits for the lane of the one that asks, which is among them."""
        return 1 if len(self._turns) else max(1, self._most - self._busy + 1)

    def _tenants(self, rank: Rank) -> list[str]:
        """Those that wait and have the rank, or all at the end; for the others their threads are woken.

        What is last begins only where a processor is left to it: once it has one, it keeps that until the clock's next
        tick from whoever was interrupted there.
        """
        if self._stopping:
            return list(self._turns.waiting)
        if rank is Rank.LAST and self._busy >= self._most:
            return []
        found, now = [], time.monotonic()
        self._company.look(now)
        for tenant_id in self._turns.waiting:
            if (its := self._company.rank(tenant_id, now)) is rank:
                found.append(tenant_id)
            else:
                self._wake[its].notify()
        return found

    def _ran(self, lane: Lane, started: float, *, left: bool, starves: bool) -> None:
        with self._lock:
            now = time.monotonic()
            self._busy -= 1
            self._running[id(lane)] -= 1
            # With the same lock, else the loop would take what is left; and what was too much beside this may run now.
            if left or lane.queue.ready:
                self._announce(lane)
            if not self._running[id(lane)]:
                del self._running[id(lane)]
            self._turns.charge(lane.tenant_id, now - started)
            self._company.charge(lane.tenant_id, now - started, now)
            if starves:
                self._company.pause(now)


def _stand(rank: Rank, processor: int | None) -> Hunger | None:
    """Has the thread that calls compute as its rank does."""
    if rank is Rank.FIRST:
        priority.keep_on()
    elif rank is Rank.COMMON:
        priority.give_way()
    else:
        priority.give_way_to_all(processor)
        return Hunger(priority.waits)
    return None
