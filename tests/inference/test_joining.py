"""What joins a batch while its files are read, and what does not."""

import time
from typing import Any

import pytest

from inference.batching import Joining, MoreBeside, run
from inference.engines.base import Tensor, Tensors
from inference.queueing import Queue
from inference.work import Reply, Work
from tenants.errors import DeadlineExceeded
from tests.inference.works import Doubling, queue, reading, work


def _raw(*values: int, bad: bool = False) -> Work:
    found = work(*values)
    found.inputs, found.raw = None, ("bad",) if bad else values
    return found


def brought(lane: Queue, now: float) -> MoreBeside:
    """What joins a batch from the queue."""
    return lambda rows, most: lane.take_more(rows, most, now)


def test_what_comes_while_files_are_decoded_joins_the_batch_and_no_more_than_fits() -> None:
    lane, engine = queue(best=4), Doubling()
    late = [_raw(2), _raw(3, bad=True), _raw(4, 5), _raw(6)]

    def one(raw: Any) -> float:
        if late:  # another request comes while this one is decoded
            lane.put(late.pop(0))
        return float(raw)

    prepare = reading(one)

    first, others = _raw(1), list(late)
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=4), beside=brought(lane, 0))
    assert batch == [first, others[0], others[1]]  # then one row is left, and the next has two
    assert [one.answer for one in batch] == [Reply(b"[2.0]"), Reply(b"[4.0]"), None]
    assert isinstance(others[1].error, ValueError)
    assert engine.batches == [2]
    assert all(one.compute_us > 0 for one in batch if one.answer)
    assert lane.running == 3
    lane.ran(batch)
    assert lane.running == 0
    assert lane.take(0) == [others[2]]
    assert (lane.rows, lane.host.queued) == (0, 0)


def test_what_the_event_loop_has_to_bring_is_let_in_though_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, engine = queue(best=2), Doubling()
    late = [_raw(2), _raw(3)]

    def gives_way(seconds: float) -> None:
        assert seconds == 0
        lane.put(late.pop(0))

    monkeypatch.setattr(time, "sleep", gives_way)
    first = _raw(1)
    lane.put(first)
    batch = lane.take(0)
    prepare = reading(float)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=2), beside=brought(lane, 0))
    assert [one.answer for one in batch] == [Reply(b"[2.0]"), Reply(b"[4.0]")]
    assert len(late) == 1  # a full batch waits for nobody


@pytest.mark.parametrize(("first", "moments"), [(1, 1), (2, 0), (3, 2), (5, 0), (10, 0)])
def test_a_batch_that_one_more_would_not_make_better_gives_nobody_a_moment(
    first: int, moments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1 row, and of 3 and 4, one more makes a better batch; 2 and 5 and 10 are good by themselves."""
    lane, slept = queue(best=10), []
    joining = Joining(best_rows=10, batches=(1, 2, 2, 4, 5, 5, 5, 5, 5, 10))

    def gives_way(seconds: float) -> None:
        slept.append(seconds)
        lane.put(_raw(0))

    monkeypatch.setattr(time, "sleep", gives_way)
    batch = [_raw(*range(first))]
    run(batch, engine=Doubling(), prepare=reading(float), joining=joining, beside=brought(lane, 0))
    assert slept == [0] * moments


def test_where_nothing_can_join_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_way(seconds: float) -> None:
        raise AssertionError(f"slept for {seconds} s")

    monkeypatch.setattr(time, "sleep", gives_way)
    lane, alone = queue(best=8), _raw(1)
    lane.put(alone)
    run(lane.take(0), engine=Doubling(), prepare=reading(float), joining=Joining(best_rows=8))
    assert alone.answer == Reply(b"[2.0]")


def test_joining_a_batch_are_no_tensors_and_none_whose_caller_left_and_late_ones_are_told() -> None:
    lane, engine = queue(best=8), Doubling()
    gone, late, tensor = _raw(2), _raw(3), work(4)
    late.deadline = 1.0
    gone.abandoned = True

    def one(raw: Any) -> float:
        if not lane:
            for each in (gone, late, tensor):
                lane.put(each)
        return float(raw)

    prepare = reading(one)

    first = _raw(1)
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=8), beside=brought(lane, 2))
    assert batch == [first, late]
    assert isinstance(late.error, DeadlineExceeded)
    assert engine.batches == [1]
    assert lane.take(0) == [tensor]


@pytest.mark.parametrize(("waiting", "rows"), [(1, 2), (2, 2), (3, 2), (4, 5), (8, 5), (9, 10), (12, 10)])
def test_what_joins_a_batch_makes_it_as_large_as_is_good(waiting: int, rows: int) -> None:
    lane, engine = queue(best=10), Doubling()
    lane.batches = (1, 2, 2, 2, 5, 5, 5, 5, 5, 10)
    lane.put(_raw(0))
    batch = lane.take(0)
    for number in range(waiting):
        lane.put(_raw(number))
    run(batch, engine=engine, prepare=reading(float), joining=Joining(best_rows=10), beside=brought(lane, 0))
    assert engine.batches == [rows]
    assert lane.rows == waiting + 1 - rows


def test_what_joins_a_short_batch_makes_it_no_longer_whatever_more_would_be_read() -> None:
    lane, engine = queue(best=8), Doubling()
    first, late = _raw(1), [_raw(2), _raw(3)]

    def one(raw: Any) -> float:
        while late:
            lane.put(late.pop(0))
        return float(raw)

    lane.put(first)
    batch = lane.take(0)
    prepare = reading(one)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=2), beside=brought(lane, 0))
    assert engine.batches == [2]


def test_beside_tensors_files_join_only_as_far_as_the_best_batch() -> None:
    lane, engine = queue(best=4), Doubling()
    tensors, first, second = work(1, 2), _raw(3), _raw(4)
    late = [second, _raw(5)]

    def one(raw: Any) -> float:
        if late:
            lane.put(late.pop(0))
        return float(raw)

    prepare = reading(one)

    lane.put(tensors)
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=4), beside=brought(lane, 0))
    assert batch == [tensors, first, second]
    assert engine.batches == [2, 2]


def test_after_an_engine_failed_what_joined_is_tried_alone_too() -> None:
    lane = queue(best=4)

    class Picky(Doubling):
        def run(self, inputs: Tensors) -> dict[str, Tensor]:
            if 2.0 in inputs["x"]:
                raise ArithmeticError("two")
            return super().run(inputs)

    joins = [_raw(2), _raw(3)]

    def one(raw: Any) -> float:
        while joins:
            lane.put(joins.pop(0))
        return float(raw)

    prepare = reading(one)

    first, bad, good = _raw(1), *joins
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=Picky(), prepare=prepare, joining=Joining(best_rows=4), beside=brought(lane, 0))
    assert batch == [first, bad, good]
    assert (first.answer, good.answer) == (Reply(b"[2.0]"), Reply(b"[6.0]"))
    assert isinstance(bad.error, ArithmeticError)
