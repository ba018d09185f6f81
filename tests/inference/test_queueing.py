"""The queues: whose turn it is, how much may wait and for whom."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.batching import Joining, run
from inference.queueing import HostRows, Queue
from inference.work import Reply, Work
from tenants.errors import OverQuota, Unavailable
from tests.inference.works import Doubling, queue, work


def test_a_long_input_leaves_the_batch_of_the_short_ones_behind_it_whole() -> None:
    lane = queue(best=4, usual=8)
    works = [work(1, bucket=8), work(2, bucket=64), work(3, bucket=8), work(4, bucket=64), work(5, bucket=8)]
    for one in works:
        lane.put(one)
    assert lane.has_long()
    assert [lane.take(0) for _ in range(4)] == [[works[0], works[2], works[4]], [works[1]], [works[3]], []]
    assert not lane.has_long()


def test_work_of_another_bucket_whose_caller_left_gives_its_turn_to_the_next() -> None:
    lane = queue()
    left, short, long = work(1, bucket=8), work(2, bucket=16), work(3, bucket=8)
    for one in (left, short, long):
        lane.put(one)
    lane.forget(left)
    assert [lane.take(0), lane.take(0), lane.take(0)] == [[short], [long], []]


def test_what_has_rows_left_is_next_even_if_something_urgent_of_another_bucket_came() -> None:
    lane = queue(best=2)
    large, urgent = work(1, 2, 3, bucket=8), work(4, bucket=16, priority=1)
    lane.put(large)
    first = lane.take(0)
    run(first, engine=Doubling(), prepare=None, joining=Joining(best_rows=2))
    lane.put(urgent)
    lane.ran(first)
    assert [lane.take(0), lane.take(0)] == [[large], [urgent]]


def test_rows_longer_than_a_whole_batch_leave_a_thread_to_the_others() -> None:
    lane = Queue(best_rows=4, limit=100, host=HostRows(1000), tenant_id="acme", usual_bucket=8, most_huge=1)
    huge, more, long, short = work(1, bucket=64), work(2, bucket=64), work(3, bucket=32), work(4, bucket=8)
    for one in (huge, more, long, short):
        lane.put(one)
    first = lane.take(0)
    assert (first, lane.ready) == ([huge], True)
    for expected in ([long], [short]):
        assert lane.take(0) == expected  # by another thread, though `more` came before
        lane.ran(expected)
    assert (lane.take(0), lane.ready, bool(lane), lane.in_use) == ([], False, True, True)
    lane.ran(first)
    assert (lane.ready, lane.take(0)) == (True, [more])
    lane.ran([more])
    assert not lane.in_use


# 1, 2, 5 and 10 rows are good, 3 and 4 and 6 to 9 cost as much as the next of those.
GOOD_BATCHES = (1, 2, 2, 2, 5, 5, 5, 5, 5, 10)


def test_a_batch_is_as_large_as_is_good_for_what_waits_and_the_rest_comes_next() -> None:
    lane = Queue(best_rows=10, limit=100, host=HostRows(1000), tenant_id="acme", short_rows=4)
    lane.batches = GOOD_BATCHES
    taken = []
    for waiting in (1, 3, 8, 9, 12, 30):
        for number in range(waiting):
            lane.put(work(number))
        while batch := lane.take(0):
            taken.append(len(batch))
        assert lane.rows == 0
    assert taken == [1, 2, 1, 5, 2, 1, 5, 2, 2, 10, 2, 10, 10, 10]
    lane.put(work(*range(8)))  # one request is not divided
    lane.put(work(1))
    assert [one.rows for one in lane.take(0)] == [8]
    for number in range(5):
        lane.put(work(number))
    assert [len(lane.take(0, short=True)) for _ in range(3)] == [2, 2, 2]


@pytest.mark.parametrize(("waiting", "among", "rows"), [(8, 2, 4), (7, 2, 4), (8, 3, 3), (1, 4, 1), (30, 2, 10)])
def test_a_batch_is_no_more_than_an_even_share(waiting: int, among: int, rows: int) -> None:
    lane = queue(best=10)
    for number in range(waiting):
        lane.put(work(number))
    assert len(lane.take(0, among=among)) == rows


def test_a_share_too_is_as_large_as_is_good() -> None:
    lane = queue(best=10)
    lane.batches = GOOD_BATCHES
    for number in range(8):
        lane.put(work(number))
    assert [len(lane.take(0, among=2)) for _ in range(2)] == [2, 2]


def test_a_short_batch_is_as_much_shorter_for_long_rows() -> None:
    lane = Queue(best_rows=8, limit=100, host=HostRows(1000), tenant_id="acme", usual_bucket=8, short_rows=4)
    for _ in range(20):
        lane.put(work(1, bucket=8))
        lane.put(work(1, bucket=16))
    batches = [lane.take(0, short=short) for short in (True, True, False, False)]
    assert [(len(batch), batch[0].bucket) for batch in batches] == [(4, 8), (2, 16), (4, 16), (8, 8)]


def test_a_request_that_began_in_short_batches_runs_each_of_its_rows_once() -> None:
    lane, engine = queue(best=4), Doubling()
    lane.short_rows = 1
    large = work(1, 2, 3)
    lane.put(large)
    for short in (True, False):
        batch = lane.take(0, short=short)
        assert batch == [large]
        run(batch, engine=engine, prepare=None, joining=Joining(best_rows=lane.most_rows(0, short=short)))
        lane.ran(batch)
    assert large.answer == Reply(b"[2.0, 4.0, 6.0]")
    assert engine.batches == [1, 2]
    assert not lane.in_use


def test_what_is_larger_than_a_batch_lets_others_run_in_between() -> None:
    lane, engine = queue(best=2), Doubling()
    large, small = work(1, 2, 3, 4, 5), work(6)
    lane.put(large)
    lane.put(small)

    def turn() -> list[Work]:
        batch = lane.take(0)
        run(batch, engine=engine, prepare=None, joining=Joining(best_rows=2))
        return batch

    first = turn()
    assert (first, large.halfway, lane.rows, lane.host.queued) == ([large], True, 1, 1)
    assert turn() == [small]  # by another thread, while the large one is still away
    lane.ran([small])
    lane.ran(first)
    while large.halfway:
        lane.ran(turn())
    assert large.answer == Reply(b"[2.0, 4.0, 6.0, 8.0, 10.0]")
    assert engine.batches == [2, 1, 2, 1]
    assert not lane.in_use


def test_a_large_request_whose_caller_left_is_not_run_to_its_end() -> None:
    lane, engine = queue(best=2), Doubling()
    large = work(1, 2, 3, 4, 5)
    lane.put(large)
    batch = lane.take(0)
    run(batch, engine=engine, prepare=None, joining=Joining(best_rows=2))
    lane.ran(batch)
    large.abandoned = True
    assert lane.take(0) == []
    assert engine.batches == [2]
    assert (lane.rows, lane.host.queued, lane.in_use) == (0, 0, False)


def test_a_batch_takes_whole_requests_up_to_the_best_size() -> None:
    lane = queue(best=4)
    for rows in ([1.0], [2.0, 3.0], [4.0, 5.0], [6.0]):
        lane.put(work(*rows))
    assert [len(lane.take(0)), len(lane.take(0)), len(lane.take(0))] == [2, 2, 0]


def test_a_full_queue_refuses_its_tenant_and_a_full_host_everyone() -> None:
    lane = queue(limit=2)
    lane.put(work(1, 2))
    with pytest.raises(OverQuota):
        lane.put(work(3))
    host = HostRows(4)
    for tenant_id, rows in (("acme", 2), ("globex", 1), ("initech", 1)):
        queue(host=host, tenant_id=tenant_id).put(work(*range(rows)))
    with pytest.raises(Unavailable) as refused:
        queue(host=host, tenant_id="umbrella").put(work(3))
    assert refused.value.retry_after


def test_a_tenant_with_many_deployments_has_one_part_of_the_host() -> None:
    host = HostRows(12)
    lanes = [queue(limit=4, host=host, tenant_id="flood") for _ in range(5)]
    for lane in (*lanes, *lanes)[:6]:
        lane.put(work(1))
    for lane in lanes:
        with pytest.raises(OverQuota) as refused:
            lane.put(work(1))
        assert refused.value.retry_after
    other = queue(host=host, tenant_id="quiet")
    for _ in range(3):
        other.put(work(1))
    assert lanes[0].take(0)  # as another has come, its part is smaller: what it gives back is for others first
    with pytest.raises(OverQuota):
        lanes[0].put(work(1))


def test_who_has_less_than_an_even_part_is_told_that_the_host_is_full() -> None:
    host = HostRows(16)
    for tenant_id, rows in (("first", 8), ("second", 4), ("third", 2), ("fourth", 1)):
        queue(host=host, tenant_id=tenant_id).put(work(*range(rows)))
    with pytest.raises(Unavailable):
        queue(host=host, tenant_id="fourth").put(work(1))
    for tenant_id in ("first", "second"):
        with pytest.raises(OverQuota):
            queue(host=host, tenant_id=tenant_id).put(work(1))


@settings(deadline=None)
@given(
    st.integers(2, 60),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 30), st.booleans()), max_size=60),
)
def test_no_tenant_holds_more_than_the_host_had_room_for(limit: int, steps: list[tuple[str, int, int, bool]]) -> None:
    host = HostRows(limit)
    lanes = {(tenant, at): queue(1, 1000, host, tenant) for tenant in "abcd" for at in range(4)}
    waiting = dict.fromkeys("abcd", 0)
    for tenant, at, rows, take in steps:
        lane, asked = lanes[tenant, at], min(rows, limit // 2)
        if take:
            waiting[tenant] -= sum(one.rows for one in lane.take(0))
            continue
        room, refusal = limit - sum(waiting.values()), None
        try:
            lane.put(work(*range(asked)))
        except (OverQuota, Unavailable) as error:
            refusal = error
        own = waiting[tenant]
        assert (refusal is None) == (asked <= room if not own else own + asked <= room - asked)
        if refusal is None:
            waiting[tenant] += asked
        else:
            even = limit // (sum(held > 0 for held in waiting.values()) + 1)
            assert isinstance(refusal, OverQuota) == (own > 0 and own + asked > even)
        assert host.queued == sum(waiting.values()) <= limit
        assert sum(held > 0 for held in waiting.values()) != 1 or host.queued <= limit // 2


def test_work_that_is_forgotten_frees_its_place_at_once() -> None:
    lane = queue(limit=2)
    left = work(1, 2)
    lane.put(left)
    lane.forget(left)
    lane.forget(left)
    assert (lane.rows, lane.host.queued) == (0, 0)
    stayed = work(3)
    lane.put(stayed)
    assert lane.take(0) == [stayed]
    lane.forget(stayed)
    assert (lane.rows, lane.host.queued) == (0, 0)
