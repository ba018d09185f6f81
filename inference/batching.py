"""The batcher: queues of work, and how a batch of it runs.

As Triton's, not as a timer: whoever is free takes everything queued for a version, up to its best batch size. An idle
server adds no waiting, and a busy one fills its batches by itself.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from inference.engines.base import BadRows, Engine, Tensor, Tensors
from tenants.errors import DeadlineExceeded, OverQuota, Refusal, Unavailable

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """The body of an answer and what its headers say of it."""

    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Prepare = Callable[[list["Work"]], Tensors]


class Receipt(Protocol):
    """How the caller of answered work is told."""

    def settle(self, error: Exception | None) -> None: ...


@dataclass(slots=True, eq=False)
class Work:
    """One request's rows on their way through a version, and then its answer or its error.

    Either `inputs` holds the tensors, or `raw` the rows as they came (files, pixels) that its thread prepares. Only
    work of one `bucket` runs together: rows of like length, so that a long one does not slow short ones. `turn` is its
    place in the queue; `first_row`, the number of its first row in the request that it is a piece of, or none.
    """

    rows: int
    deadline: float
    render: Callable[[Tensors], Reply]
    inputs: Tensors | None = None
    raw: tuple[Any, ...] = ()
    receipt: "Receipt | None" = None
    priority: int = 0
    bucket: int = 0
    turn: tuple[int, int] = (0, 0)
    first_row: int | None = None
    queued_at: float = 0.0
    taken_at: float = 0.0
    queued: bool = False
    taken: bool = False
    abandoned: bool = False
    answer: Reply | None = None
    error: Exception | None = None
    compute_us: int = 0
    rows_run: int = 0
    parts: list[Tensors] = field(default_factory=list)

    @property
    def halfway(self) -> bool:
        """Whether some of its rows have run and others have not: it is larger than a batch, and nothing went wrong."""
        return 0 < self.rows_run < self.rows and self.error is None


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
    takes about as long. A row that takes longer by itself is huge: only `most_huge` such batches run at a time,
    which leaves a thread to the others.
    """

    best_rows: int
    limit: int
    host: HostRows
    tenant_id: str
    usual_bucket: int | None = None
    most_huge: int | None = None
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

    def take(self, now: float) -> list[Work]:
        """The next batch: whole requests in their order, up to the best size, at least one if there is any.

        They are of the bucket of the one whose turn it is. Work whose caller has left is dropped here; work past its
        deadline is in the batch with its error set. Work that is larger than a batch comes alone, and comes back by
        `ran` until all its rows have run.
        """
        batch: list[Work] = []
        rows = left = most = 0
        with self.host.lock:
            line: deque[Work] | None = None
            while line or (not batch and (line := self._next())):
                if not batch:
                    most = self.most_rows(line[0].bucket)
                elif rows + line[0].rows > most:
                    break
                work = line.popleft()
                if not line:
                    del self._lines[work.bucket]
                if work.abandoned:
                    line = line if batch else None
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
            if self.usual_bucket is not None and batch:
                self.huge_running += self.is_huge(batch[0].bucket)
            if left:
                self.rows -= left
                self.host.remove(self.tenant_id, left)
        return batch

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

    def most_rows(self, bucket: int) -> int:
        """How many rows of a bucket are run together: as many as take about as long as the best batch of usual ones."""
        if self.usual_bucket is None or bucket <= self.usual_bucket:
            return self.best_rows
        return max(1, self.best_rows * self.usual_bucket // bucket)

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


@dataclass(frozen=True, slots=True)
class Joining:
    """How the rows of several requests become one batch.

    `best_rows` is the largest batch; with `shapes` rows may differ in shape, and only like ones are joined; without
    `batched` the model's tensors have no dimension of rows, and each request runs alone. `nothing` is what comes out
    for no rows, where no engine can be asked.
    """

    best_rows: int
    shapes: bool = False
    batched: bool = True
    nothing: Tensors | None = None


def run(batch: list[Work], *, engine: Engine, prepare: Prepare | None, joining: Joining) -> None:
    """Runs a batch and gives each request its answer or its error; what is wrong with one fails that one alone.

    Of a request that is larger than a batch, one batch of its rows is run, so that others have their turn in between.
    """
    started = time.perf_counter_ns()
    try:
        works = [work for work in batch if work.error is None]
        large = [work for work in works if work.rows > joining.best_rows] if joining.batched else []
        pieces = {id(work): _piece(work, joining.best_rows) for work in large}
        if pieces:
            works = [pieces.get(id(work), work) for work in works]
        for group in _groups([work for work in works if work.inputs is not None], joining):
            _attempt(group, engine, joining, None)
        raw = [work for work in works if work.raw]
        if raw and prepare is not None:
            _attempt(raw, engine, joining, prepare)
        _share_compute(works, (time.perf_counter_ns() - started) // 1000)
        for work in large:
            _add(work, pieces[id(work)])
    except Exception as error:
        logger.exception("a batch of %d requests could not be run", len(batch))
        for work in batch:
            if work.answer is None:
                work.error = work.error or error


def ended(batch: list[Work]) -> list[Work]:
    """What of a batch that has run has come to its end; the rest has rows left."""
    return [work for work in batch if not (work.rows_run and work.halfway)]


def _piece(work: Work, rows: int) -> Work:
    """The next so many rows of a request, as work of its own, which leaves the request what comes out."""

    def keep(outputs: Tensors) -> Reply:
        work.parts.append(outputs)
        return Reply(b"")

    start, end = work.rows_run, min(work.rows_run + rows, work.rows)
    inputs = None if work.inputs is None else {name: tensor[start:end] for name, tensor in work.inputs.items()}
    return Work(end - start, work.deadline, keep, inputs=inputs, raw=work.raw[start:end], first_row=start)


def _add(work: Work, piece: Work) -> None:
    """The request has another piece; after the last one it has its answer."""
    work.rows_run += piece.rows
    work.compute_us += piece.compute_us
    if piece.error is not None:
        work.error = piece.error
    elif work.rows_run == work.rows:
        _answer(work, {name: np.concatenate([part[name] for part in work.parts]) for name in work.parts[0]})


def _attempt(group: list[Work], engine: Engine, joining: Joining, prepare: Prepare | None) -> None:
    try:
        inputs = None if prepare is None else prepare(group)
        _run_ready([work for work in group if work.error is None], engine, joining, inputs)
    except BadRows as bad:
        left = [work for work in group if work.error is None]
        _refuse(left, bad)
        if rest := [work for work in left if work.error is None]:
            _attempt(rest, engine, joining, prepare)
    except Exception as error:
        left = [work for work in group if work.error is None and work.answer is None]
        if len(left) > 1:  # whichever of them it was, it fails alone
            for work in left:
                _attempt([work], engine, joining, prepare)
            return
        if not isinstance(error, Refusal):
            logger.exception("the engine %s failed on a request of %d rows", engine.name, left[0].rows if left else 0)
        for work in left:
            work.error = error


def _refuse(group: Sequence[Work], bad: BadRows) -> None:
    """Gives each request of the group its first bad row's refusal; which row it was is said where it has several."""
    start = 0
    for work in group:
        end = start + work.rows
        row = min((row for row in bad.refusals if start <= row < end), default=None)
        if row is not None:
            work.error = _of_row(bad.refusals[row], work, row - start)
        start = end


def _of_row(refusal: Refusal, work: Work, row: int) -> Refusal:
    if work.rows == 1 and work.first_row is None:
        return refusal
    return type(refusal)(f"Row {(work.first_row or 0) + row}: {refusal.detail}", errors=refusal.errors)


def _groups(ready: list[Work], joining: Joining) -> list[list[Work]]:
    """The requests whose rows can be one batch."""
    if not joining.batched:
        return [[work] for work in ready]
    if not joining.shapes or len(ready) < 2:
        return [ready] if ready else []
    groups: dict[tuple[tuple[int, ...], ...], list[Work]] = {}
    for work in ready:
        groups.setdefault(tuple(tensor.shape[1:] for tensor in (work.inputs or {}).values()), []).append(work)
    return list(groups.values())


def fill(works: list[Work], buffer: Tensor, prepare: Callable[[Any, Tensor], None]) -> Tensor:
    """Prepares the raw rows of all works into the buffer, one under the other, and gives the rows that are filled.

    The rows of a work that has a bad one are taken back, and the work has its error.
    """
    filled = 0
    for work in works:
        end = filled
        try:
            for raw in work.raw:
                prepare(raw, buffer[end])
                end += 1
        except Refusal as refusal:
            work.error = refusal
        except Exception as error:
            logger.exception("a request failed alone in its batch")
            work.error = error
        else:
            filled = end
    return buffer[:filled]


def _run_ready(ready: list[Work], engine: Engine, joining: Joining, inputs: Tensors | None) -> None:
    if not ready:
        return
    if not joining.batched:
        _answer(ready[0], engine.run(ready[0].inputs or {}))
    else:
        _answer_each(ready, _run_rows(inputs or _joined(ready), engine, joining.nothing))


def _joined(ready: list[Work]) -> Tensors:
    """The inputs of all requests, one under the other."""
    first = ready[0].inputs or {}
    if len(ready) == 1:
        return first
    return {name: np.concatenate([(work.inputs or {})[name] for work in ready]) for name in first}


def _run_rows(inputs: Tensors, engine: Engine, nothing: Tensors | None) -> Tensors:
    """Runs rows. No engine is asked about none: one row of zeros says what the outputs are like, or it is known."""
    if len(next(iter(inputs.values()))):
        return engine.run(inputs)
    if nothing is not None:
        return nothing
    return {name: rows[:0] for name, rows in engine.run(_row_like(inputs)).items()}


def _row_like(inputs: Tensors) -> Tensors:
    return {
        name: np.full((1, *rows.shape[1:]), b"", object)
        if rows.dtype.kind == "O"
        else np.zeros((1, *rows.shape[1:]), rows.dtype)
        for name, rows in inputs.items()
    }


def _answer_each(ready: list[Work], outputs: Tensors) -> None:
    start = 0
    for work in ready:
        end = start + work.rows
        _answer(work, {name: rows[start:end] for name, rows in outputs.items()})
        start = end


def _answer(work: Work, outputs: Tensors) -> None:
    try:
        work.answer = work.render(outputs)
    except Refusal as refusal:
        work.error = refusal
    except Exception as error:
        logger.exception("an answer could not be written")
        work.error = error


def _share_compute(batch: list[Work], microseconds: int) -> None:
    """Each request bears the batch's time by its rows."""
    answered = [work for work in batch if work.answer is not None]
    total = sum(work.rows for work in answered)
    for work in answered:
        work.compute_us = microseconds * work.rows // total if total else microseconds // len(answered)
