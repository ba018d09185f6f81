"""The queues of work: bounded in rows, for each version, each tenant and the host."""

import threading
from collections import deque
from dataclasses import dataclass, field

from inference.work import Work
from tenants.errors import DeadlineExceeded, OverQuota, Unavailable


class HostRows:
    """The rows queued on the whole host, bounded, with each tenant's part; its lock guards the queues that it counts.

    As many rows may wait for one tenant as the host has room left: one alone fills half of it, each of n that press a
    part of n + 1. So whoever comes finds room, however many deployments another tenant has. (Dynamic thresholds:
    Choudhury and Hahne, 1998, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches".)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queued = 0
        self.lock = threading.Lock()
        self._of_tenant: dict[str, int] = {}

    def check(self, tenant_id: str, rows: int) -> None:
        """Refuses rows of a tenant that has its part already, and anybody's when the host is full."""
        own, left = self._of_tenant.get(tenant_id, 0), self.limit - self.queued - rows
        if left >= (own + rows if own else 0):
            return
        if own and own + rows > self.limit // (len(self._of_tenant) + 1):
            raise OverQuota(f"{own} rows are queued for your deployments, your part of this host.", retry_after=1)
        raise Unavailable("The queues of this host are full.", retry_after=1)

    def add(self, tenant_id: str, rows: int) -> None:
        """Counts rows that are queued; the lock is held."""
        self._of_tenant[tenant_id] = self._of_tenant.get(tenant_id, 0) + rows
        self.queued += rows

    def remove(self, tenant_id: str, rows: int) -> None:
        """Counts rows that wait no longer; the lock is held."""
        left = self._of_tenant.pop(tenant_id, 0) - rows
        if left:
            self._of_tenant[tenant_id] = left
        self.queued -= rows


# The turn of work that comes before all that waits; a priority, 1 the highest; and work without one.
NEXT, NO_PRIORITY = 0, 2**64


@dataclass(slots=True)
class Queue:
    """The work that waits for one version, bounded in rows: a line for each bucket, each in the order of its turns.

    `best_rows` is how many rows of the `usual_bucket` are run together; of longer ones there are fewer, so that a batch
    takes about as long; `short_rows` are run together in a short batch. `batches` says how many rows are run together
    where one waits, where two do, and so on; without it, as many as there are. A row that takes longer by itself is
    huge: only `most_huge` such batches run at a time, which leaves a thread to the others.
    """

    best_rows: int
    limit: int
    host: HostRows
    tenant_id: str
    usual_bucket: int | None = None
    most_huge: int | None = None
    short_rows: int | None = None
    batches: tuple[int, ...] = ()
    rows: int = 0
    running: int = 0
    huge_running: int = 0
    _lines: dict[int, deque[Work]] = field(default_factory=dict)
    _came: int = 0
    _went_back: int = 0

    def put(self, work: Work) -> None:
        """Adds work at the end, or refuses it: the queue is full, its tenant's part of the host, or the host.

        1 is the highest priority; work without one comes after all that has one.
        """
        with self.host.lock:
            self.check(work.rows)
            work.queued = True
            self._came += 1
            work.turn = (work.priority or NO_PRIORITY, self._came)
            line = self._lines.get(work.bucket)
            if line is None:
                self._lines[work.bucket] = deque((work,))
            elif work.priority and line[-1].turn > work.turn:
                line.insert(next(i for i, one in enumerate(line) if one.turn > work.turn), work)
            else:
                line.append(work)
            self.rows += work.rows
            self.host.add(self.tenant_id, work.rows)

    def check(self, rows: int) -> None:
        """Refuses so many rows if there is no room for them; without the lock it is a guess that spares work."""
        if self.rows and self.rows + rows > self.limit:
            raise OverQuota(
                f"{self.rows} rows are queued for this deployment; its queue takes {self.limit}.", retry_after=1
            )
        self.host.check(self.tenant_id, rows)

    def take(self, now: float, *, short: bool = False, among: int = 1) -> list[Work]:
        """The next batch: whole requests in their order, up to the best size or the short one, at least one if any.

        It is no more than an even share of what waits, where that is dealt out `among` several who are free. They are
        of the bucket of the one whose turn it is. Work whose caller has left is dropped here; work past its
        deadline is in the batch with its error set. Work that is larger than a batch comes alone, and comes back by
        `ran` until all its rows have run.
        """
        batch: list[Work] = []
        with self.host.lock:
            while not batch and (line := self._next()):
                most = self.most_rows(line[0].bucket, short=short)
                most = self._worth(min(most, (self.rows + among - 1) // among))
                self._take_from(line, batch, most, now)
            if self.usual_bucket is not None and batch:
                self.huge_running += self.is_huge(batch[0].bucket)
        return batch

    def take_more(self, rows: int, most: int, now: float) -> list[Work]:
        """Raw work that is next, for a batch of so many rows, and at most so many, that is being prepared already.

        The batch becomes as large as it would be if all had waited.
        """
        batch: list[Work] = []
        with self.host.lock:
            fit = self._worth(min(most, rows + self.rows)) - rows
            if fit > 0 and (line := self._next()):
                self._take_from(line, batch, fit, now, joining=True)
        return batch

    def _take_from(self, line: deque[Work], batch: list[Work], most: int, now: float, *, joining: bool = False) -> None:
        """Moves work from the head of a line into the batch; the lock is held."""
        rows = left = 0
        while line:
            work = line[0]
            if (rows + work.rows > most and (batch or joining)) or (joining and not work.raw):
                break
            line.popleft()
            if not line:
                del self._lines[work.bucket]
            if work.abandoned:
                if not batch and not joining:
                    return  # whose turn it is now may be in another line
                continue
            if not work.taken:
                left += work.rows
                work.taken, work.taken_at = True, now
            if work.deadline < now:
                work.error = DeadlineExceeded("The deadline passed while the request waited in the queue.")
            else:
                rows += work.rows
            batch.append(work)
        self.running += len(batch)
        if left:
            self.rows -= left
            self.host.remove(self.tenant_id, left)

    def ran(self, batch: list[Work]) -> None:
        """A batch that was taken has run; what has rows left is the next in turn."""
        with self.host.lock:
            self.running -= len(batch)
            if self.usual_bucket is not None and batch:
                self.huge_running -= self.is_huge(batch[0].bucket)
            for work in reversed(batch):
                if work.rows_run and work.halfway:
                    self._went_back += 1
                    work.turn = (NEXT, -self._went_back)
                    self._lines.setdefault(work.bucket, deque()).appendleft(work)

    def borrow(self) -> None:
        """Something else than a batch is run by the version, until it is `returned`."""
        with self.host.lock:
            self.running += 1

    def returned(self) -> None:
        """What was borrowed is not used any more."""
        with self.host.lock:
            self.running -= 1

    def is_huge(self, bucket: int) -> bool:
        """Whether one row of the bucket takes longer than the best batch of usual ones."""
        return self.usual_bucket is not None and bucket > self.best_rows * self.usual_bucket > 0

    def most_rows(self, bucket: int, *, short: bool = False) -> int:
        """How many rows of a bucket are run together: as many as take about as long as the batch of usual ones."""
        most = self.short_rows if short and self.short_rows else self.best_rows
        if self.usual_bucket is None or bucket <= self.usual_bucket:
            return most
        return max(1, most * self.usual_bucket // bucket)

    def _worth(self, rows: int) -> int:
        """How many of so many rows are run together."""
        if not self.batches or rows < 1:
            return rows
        return self.batches[min(rows, len(self.batches)) - 1]

    @property
    def in_use(self) -> bool:
        """Whether work waits here or runs."""
        return bool(self.rows or self.running or self._lines)

    def has_long(self) -> bool:
        """Whether something longer than usual waits; without the lock, for the thread that puts work here."""
        return self.usual_bucket is not None and any(bucket > self.usual_bucket for bucket in list(self._lines))

    @property
    def ready(self) -> bool:
        """Whether there is work that may be taken now; without the lock it may be so no more."""
        lines = self._lines
        return bool(lines) and (not self._huge_are_enough or not all(self.is_huge(bucket) for bucket in list(lines)))

    @property
    def _huge_are_enough(self) -> bool:
        return self.most_huge is not None and self.huge_running >= self.most_huge

    def _next(self) -> deque[Work] | None:
        """The line of the work whose turn it is."""
        lines = self._lines
        if self.usual_bucket is not None and self._huge_are_enough:
            lines = {bucket: line for bucket, line in lines.items() if not self.is_huge(bucket)}
        if len(lines) < 2:
            return next(iter(lines.values()), None)
        return min(lines.values(), key=lambda line: line[0].turn)

    def forget(self, work: Work) -> None:
        """Frees the place of work whose caller has left, unless its batch has been taken already."""
        with self.host.lock:
            if not work.taken and work.queued:
                work.taken, work.abandoned = True, True
                self.rows -= work.rows
                self.host.remove(self.tenant_id, work.rows)

    def __bool__(self) -> bool:
        return bool(self._lines)
