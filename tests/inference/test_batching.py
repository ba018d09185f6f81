"""The batcher: order, bounds, and failures that stay with the request that caused them."""

import time
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import Joining, More, run
from inference.engines.base import BadRows, Tensor, Tensors, Unwritten
from inference.work import Reply, Work
from tenants.errors import DeadlineExceeded, Invalid
from tests.inference.works import Doubling, queue, reading, work


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

    prepare = reading(one)

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
        return reading(one)(works, more)

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
