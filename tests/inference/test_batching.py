"""The batcher: order, bounds, and failures that stay with the request that caused them."""

import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import Joining, More, Prepare, read, run
from inference.engines.base import BadRows, Tensor, Tensors, Unwritten
from inference.work import Reply, Work
from modelhub.signatures import TensorSpec
from tenants.errors import DeadlineExceeded, Invalid
from tests.inference.works import Doubling, queue, work


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9), max_size=20), st.integers(1, 8))
def test_every_request_gets_the_answer_to_its_own_rows(requests: list[list[float]], best: int) -> None:
    lane, engine = queue(best=best, limit=10_000), Doubling()
    works = [work(*rows) for rows in requests]
    for one in works:
        lane.put(one)
    while batch := lane.take(time.monotonic()):
        run(batch, engine=engine, prepare=None, joining=Joining(best_rows=best))
        lane.ran(batch)
    for one, rows in zip(works, requests, strict=True):
        assert one.answer is not None
        assert one.answer.body == repr([float(np.float32(value) * 2) for value in rows]).encode()
    assert max(engine.batches, default=0) <= best
    assert lane.rows == lane.host.queued == 0


ASKED = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([8, 16, 64]), st.sampled_from([0, 0, 0, 1, 2])), max_size=20
)


@given(ASKED, st.integers(1, 8))
def test_rows_of_one_bucket_run_together_in_their_order_and_nobody_is_passed_over(
    asked: list[tuple[int, int, int]], best: int
) -> None:
    lane, engine = queue(best=best, limit=10_000, usual=16), Doubling()
    works = [work(*range(rows), bucket=bucket, priority=priority) for rows, bucket, priority in asked]
    for one in works:
        lane.put(one)
    due = sorted(works, key=lambda one: one.priority or 3)
    while batch := lane.take(time.monotonic()):
        assert batch[0] is due[0]  # whoever has waited longest goes, whatever the length of the others
        (bucket,) = {one.bucket for one in batch}
        most = lane.most_rows(bucket)
        assert most == (max(1, best // 4) if bucket == 64 else best)
        assert sum(one.rows for one in batch) <= most or len(batch) == 1
        alike = [one for one in due if one.bucket == bucket]
        assert batch == alike[: len(batch)]
        if len(batch) < len(alike):
            assert sum(one.rows for one in alike[: len(batch) + 1]) > most
        run(batch, engine=engine, prepare=None, joining=Joining(best_rows=most))
        lane.ran(batch)
        due = [one for one in due if one not in batch or one.halfway]
        if batch[0].halfway:
            assert lane.take(0) == batch  # what has rows left comes next
            lane.ran(batch)
    assert all(one.answer == Reply(repr([2.0 * row for row in range(one.rows)]).encode()) for one in works)
    assert lane.rows == lane.host.queued == 0
    assert not lane.in_use


class Refusing(Doubling):
    """A fake engine that refuses rows of 13, and says which they are."""

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        if bad := {int(row): Invalid("Not 13.") for row in np.flatnonzero(inputs["x"] == 13)}:
            raise BadRows(bad)
        return super().run(inputs)


def test_a_bad_row_is_named_to_who_sent_it_and_the_others_run_together() -> None:
    engine = Refusing()
    works = [work(1), work(13), work(2, 3, 13, 13), work(4, 5), work(13)]
    run(works, engine=engine, prepare=None, joining=Joining(best_rows=16))
    assert [one.answer and one.answer.body for one in works] == [b"[2.0]", None, None, b"[8.0, 10.0]", None]
    assert [str(one.error) for one in works if one.error] == ["Not 13.", "Row 2: Not 13.", "Not 13."]
    assert engine.batches == [3]


@pytest.mark.parametrize("best", [1, 2, 3])
def test_a_bad_row_of_a_large_request_is_named_by_its_place_in_the_request(best: int) -> None:
    lane, large = queue(best=best), work(1, 2, 3, 4, 13, 6)
    lane.put(large)
    while batch := lane.take(0):
        run(batch, engine=Refusing(), prepare=None, joining=Joining(best_rows=best))
        lane.ran(batch)
    assert str(large.error) == "Row 4: Not 13."


def test_what_comes_out_for_no_rows_needs_no_engine_where_it_is_known() -> None:
    engine, one = Refusing(), work()
    run([one], engine=engine, prepare=None, joining=Joining(best_rows=4, nothing={"y": np.zeros(0, np.float32)}))
    assert (one.answer, engine.batches) == (Reply(b"[]"), [])


def test_work_whose_caller_left_is_dropped_before_it_runs() -> None:
    lane = queue()
    left, stayed = work(1), work(2)
    lane.put(left)
    lane.put(stayed)
    left.abandoned = True
    assert lane.take(0) == [stayed]


def test_work_past_its_deadline_is_not_run() -> None:
    lane, engine = queue(), Doubling()
    late = work(1, deadline=1.0)
    lane.put(late)
    batch = lane.take(now=2.0)
    run(batch, engine=engine, prepare=None, joining=Joining(best_rows=4))
    assert isinstance(late.error, DeadlineExceeded)
    assert engine.batches == []


def test_one_bad_row_fails_alone() -> None:
    def one(raw: bytes) -> float:
        if raw == b"bad":
            raise Invalid("no picture")
        return float(raw)

    prepare = _reading(8, one)

    works = [
        Work(
            rows=len(raw),
            deadline=1e12,
            render=lambda outputs: Reply(bytes(outputs["y"].ravel().astype(np.uint8))),
            raw=raw,
        )
        for raw in ((b"1",), (b"4", b"bad"), (b"3", b"5"))
    ]
    tensors = work(7)
    run([*works, tensors], engine=Doubling(), prepare=prepare, joining=Joining(best_rows=8))
    assert [work.answer and work.answer.body for work in works] == [b"\x02", None, b"\x06\x0a"]
    assert tensors.answer == Reply(b"[14.0]")
    assert isinstance(works[1].error, Invalid)


def test_an_engine_that_fails_fails_its_batch_and_no_more() -> None:
    class Broken:
        name = "broken"
        outside_bytes = 0
        per_thread = True
        gone = False

        def run(self, inputs: Tensors) -> dict[str, Tensor]:
            raise ValueError("broken")

        def close(self) -> None: ...

    one, two = work(1), work(2)
    run([one, two], engine=Broken(), prepare=None, joining=Joining(best_rows=4))
    assert isinstance(one.error, ValueError)
    assert isinstance(two.error, ValueError)


def test_a_request_that_the_engine_cannot_run_fails_alone() -> None:
    class Picky(Doubling):
        def run(self, inputs: Tensors) -> dict[str, Tensor]:
            if (inputs["x"] == 13).any():
                raise Invalid("not 13")
            return super().run(inputs)

    works = [work(1), work(13), work(2, 3)]
    run(works, engine=Picky(), prepare=None, joining=Joining(best_rows=8))
    assert [one.answer and one.answer.body for one in works] == [b"[2.0]", None, b"[4.0, 6.0]"]
    assert isinstance(works[1].error, Invalid)


def test_raw_rows_of_a_large_request_are_prepared_a_batch_at_a_time_and_a_bad_one_ends_it() -> None:
    prepared: list[int] = []

    def one(raw: int) -> int:
        if raw < 0:
            raise Invalid("no picture")
        return raw

    def prepare(works: list[Work], more: More | None) -> Unwritten:
        prepared.append(sum(each.rows for each in works))
        return _reading(2, one)(works, more)

    for raw, ended in (((1, 2, 3), Reply(b"[2.0, 4.0, 6.0]")), ((1, 2, -1, 4, 5), None)):
        lane, engine, prepared[:] = queue(best=2), Doubling(), []
        large = work(*raw)
        large.inputs, large.raw = None, raw
        lane.put(large)
        while batch := lane.take(0):
            run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=2))
            lane.ran(batch)
        assert large.answer == ended
        assert isinstance(large.error, Invalid) == (ended is None)
        assert prepared == [2, 1] if ended else [2, 2]


def _reading(most: int, one: Callable[[Any], Any]) -> Prepare:
    """Reads files by `one`, until they are so many rows with those that join."""

    def prepare(works: list[Work], more: More | None) -> Unwritten:
        return Unwritten(TensorSpec("x", "float32", (-1, 1)), read(works, one, most=most, more=more), _write)

    return prepare


def _write(found: Any, into: Tensor) -> None:
    into[:] = found


def _raw(*values: int, bad: bool = False) -> Work:
    found = work(*values)
    found.inputs, found.raw = None, ("bad",) if bad else values
    return found


def test_what_comes_while_files_are_decoded_joins_the_batch_and_no_more_than_fits() -> None:
    lane, engine = queue(best=4), Doubling()
    late = [_raw(2), _raw(3, bad=True), _raw(4, 5), _raw(6)]

    def one(raw: Any) -> float:
        if late:  # another request comes while this one is decoded
            lane.put(late.pop(0))
        return float(raw)

    prepare = _reading(4, one)

    first, others = _raw(1), list(late)
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=4), more=lambda rows: lane.take_more(rows, 0))
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
    prepare = _reading(2, float)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=2), more=lambda rows: lane.take_more(rows, 0))
    assert [one.answer for one in batch] == [Reply(b"[2.0]"), Reply(b"[4.0]")]
    assert len(late) == 1  # a full batch waits for nobody


def test_where_nothing_can_join_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_way(seconds: float) -> None:
        raise AssertionError(f"slept for {seconds} s")

    monkeypatch.setattr(time, "sleep", gives_way)
    lane, alone = queue(best=8), _raw(1)
    lane.put(alone)
    run(lane.take(0), engine=Doubling(), prepare=_reading(8, float), joining=Joining(best_rows=8))
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

    prepare = _reading(8, one)

    first = _raw(1)
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=8), more=lambda rows: lane.take_more(rows, 2))
    assert batch == [first, late]
    assert isinstance(late.error, DeadlineExceeded)
    assert engine.batches == [1]
    assert lane.take(0) == [tensor]


def test_what_joins_a_short_batch_makes_it_no_longer_whatever_more_would_be_read() -> None:
    lane, engine = queue(best=8), Doubling()
    first, late = _raw(1), [_raw(2), _raw(3)]

    def one(raw: Any) -> float:
        while late:
            lane.put(late.pop(0))
        return float(raw)

    lane.put(first)
    batch = lane.take(0)
    prepare = _reading(8, one)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=2), more=lambda rows: lane.take_more(rows, 0))
    assert engine.batches == [2]


def test_beside_tensors_files_join_only_as_far_as_the_best_batch() -> None:
    lane, engine = queue(best=4), Doubling()
    tensors, first, second = work(1, 2), _raw(3), _raw(4)
    late = [second, _raw(5)]

    def one(raw: Any) -> float:
        if late:
            lane.put(late.pop(0))
        return float(raw)

    prepare = _reading(4, one)

    lane.put(tensors)
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=prepare, joining=Joining(best_rows=4), more=lambda rows: lane.take_more(rows, 0))
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

    prepare = _reading(4, one)

    first, bad, good = _raw(1), *joins
    lane.put(first)
    batch = lane.take(0)
    run(batch, engine=Picky(), prepare=prepare, joining=Joining(best_rows=4), more=lambda rows: lane.take_more(rows, 0))
    assert batch == [first, bad, good]
    assert (first.answer, good.answer) == (Reply(b"[2.0]"), Reply(b"[6.0]"))
    assert isinstance(bad.error, ArithmeticError)


def test_compute_time_is_shared_by_rows() -> None:
    one, three = work(1), work(1, 2, 3)

    class Slow(Doubling):
        def run(self, inputs: Tensors) -> dict[str, Tensor]:
            time.sleep(0.02)
            return super().run(inputs)

    run([one, three], engine=Slow(), prepare=None, joining=Joining(best_rows=4))
    assert one.compute_us > 4000
    assert abs(three.compute_us - 3 * one.compute_us) <= 3


def test_rows_of_unlike_shape_run_apart_and_no_rows_are_answered() -> None:
    def ask(shape: tuple[int, ...]) -> Work:
        return Work(
            rows=shape[0],
            deadline=1e12,
            render=lambda outputs: Reply(repr(outputs["y"].shape).encode()),
            inputs={"x": np.ones(shape, np.float32)},
        )

    shapes = [(2, 3), (1, 5), (0, 3), (4, 3), (0, 7)]
    works = [ask(shape) for shape in shapes]
    engine = Doubling()
    run(works, engine=engine, prepare=None, joining=Joining(best_rows=8, shapes=True))
    assert [work.answer and work.answer.body for work in works] == [repr(shape).encode() for shape in shapes]
    assert engine.batches == [6, 1, 1]


def test_what_has_no_rows_runs_each_request_alone() -> None:
    works = [work(1, 2), work(3)]
    engine = Doubling()
    run(works, engine=engine, prepare=None, joining=Joining(best_rows=8, batched=False))
    assert [one.answer and one.answer.body for one in works] == [b"[2.0, 4.0]", b"[6.0]"]
    assert engine.batches == [2, 1]


def test_whatever_goes_wrong_in_a_batch_its_thread_lives() -> None:
    class Broken(dict[str, Tensor]):
        def values(self) -> NoReturn:
            raise RuntimeError("broken")

    works = [work(1), Work(1, 1e12, lambda outputs: Reply(b""), inputs=Broken(x=np.ones((1, 1), np.float32)))]
    run(works, engine=Doubling(), prepare=None, joining=Joining(best_rows=8, shapes=True))
    assert all(isinstance(one.error, RuntimeError) for one in works)
