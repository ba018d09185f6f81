"""The batcher: how a batch of work runs.

As Triton's, not as a timer: whoever is free takes what is queued for a version, as much as is good together, up to its
best batch size. An idle server adds no waiting, and a busy one fills its batches by itself. What comes while files are
decoded joins the batch.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.engines.base import BadRows, Engine, Tensors, Unwritten, run_unwritten
from inference.work import Reply, Work
from tenants.errors import Refusal

logger = logging.getLogger(__name__)

# Gives raw work that has come meanwhile and joins the batch.
More = Callable[[], list[Work]]
# The same for a batch that has so many rows, which are told first, and may have so many at most.
MoreBeside = Callable[[int, int], list[Work]]
# Reads the raw rows of works; works that join are appended to the list.
Prepare = Callable[[list[Work], More | None], Unwritten]


@dataclass(frozen=True, slots=True)
class Joining:
    """How the rows of several requests become one batch.

    `best_rows` is the largest batch; `batches`, how many rows are run together where one waits, where two do, and so
    on. With `shapes` rows may differ in shape, and only like ones are joined; without `batched` the model's tensors
    have no dimension of rows, and each request runs alone. `nothing` is what comes out for no rows, where no engine can
    be asked.
    """

    best_rows: int
    batches: tuple[int, ...] = ()
    shapes: bool = False
    batched: bool = True
    nothing: Tensors | None = None

    def grows(self, rows: int) -> bool:
        """Whether a batch of so many rows is better with one more: then it is given a moment to come."""
        return rows < self.best_rows and (not self.batches or self.batches[rows] > rows)


def run(
    batch: list[Work], *, engine: Engine, prepare: Prepare | None, joining: Joining, beside: MoreBeside | None = None
) -> None:
    """Runs a batch and gives each request its answer or its error; what is wrong with one fails that one alone.

    Of a request that is larger than a batch, one batch of its rows is run, so that others have their turn in between.
    What `beside` gives joins the batch.
    """

    there = 0

    def more() -> list[Work]:
        nonlocal there
        assert beside is not None
        if joining.grows(there):
            time.sleep(0)  # lets the event loop bring what has come
        joined = beside(there, joining.best_rows)
        there += sum([work.rows for work in joined])
        batch.extend(joined)
        return joined

    started = time.perf_counter_ns()
    try:
        works = [work for work in batch if work.error is None]
        large = [work for work in works if work.rows > joining.best_rows or work.rows_run] if joining.batched else []
        pieces = {id(work): _piece(work, joining.best_rows) for work in large}
        if pieces:
            works = [pieces.get(id(work), work) for work in works]
        ready = [work for work in works if work.inputs is not None]
        there = sum([work.rows for work in works])
        for group in _groups(ready, joining):
            _attempt(group, engine, joining, None)
        raw = [work for work in works if work.raw]
        if raw and prepare is not None:
            known = len(raw)
            _attempt(raw, engine, joining, prepare, None if beside is None else more)
            works += raw[known:]
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


def _attempt(
    group: list[Work], engine: Engine, joining: Joining, prepare: Prepare | None, more: More | None = None
) -> None:
    try:
        rows = None if prepare is None else prepare(group, more)
        _run_ready([work for work in group if work.error is None], engine, joining, rows)
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


def read(works: list[Work], one: Callable[[Any], Any], more: More | None = None) -> list[Any]:
    """What the raw rows of all works hold, each read by `one`, one under the other.

    What `more` gives when these are read is added to the works, until that is nothing. A work that has a bad row has
    its error, and none of its rows is there.
    """
    found: list[Any] = []
    for work in works:  # the list may grow
        try:
            if work.error is None:
                found += [one(raw) for raw in work.raw]
        except Refusal as refusal:
            work.error = refusal
        except Exception as error:
            logger.exception("a request failed alone in its batch")
            work.error = error
        if more is not None and work is works[-1]:
            works += more()
    return found


def _run_ready(ready: list[Work], engine: Engine, joining: Joining, rows: Unwritten | None) -> None:
    if not ready:
        return
    if rows is not None:
        _answer_each(ready, run_unwritten(engine, rows))
    elif not joining.batched:
        _answer(ready[0], engine.run(ready[0].inputs or {}))
    else:
        _answer_each(ready, _run_rows(_joined(ready), engine, joining.nothing))


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
