"""The pace of refusals: at once for one that is refused now and then, later for one that floods."""

import resource
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.plane.pacing import BURST, LONGEST_SECONDS, MOST_HELD, MOST_HELD_BYTES, PER_SECOND, REMEMBERED, Pace


def test_a_tenant_that_is_refused_now_and_then_is_told_at_once() -> None:
    pace = Pace()
    assert [pace.delay("acme", second / 100) for second in range(1000)] == [0.0] * 1000


def test_a_flood_is_told_at_the_pace() -> None:
    pace = Pace()
    delays = [pace.delay("flood", 100.0) for _ in range(int(LONGEST_SECONDS * PER_SECOND))]
    assert delays[: BURST + 1] == pytest.approx([0.0] * (BURST + 1))
    assert delays == sorted(delays)
    assert delays[BURST + 10] == pytest.approx(10 / PER_SECOND)
    assert pace.delay("quiet", 100.0) == 0.0  # nobody else waits for it
    assert pace.delay("flood", 100.0 + 2 * LONGEST_SECONDS) == 0.0  # and it is forgiven when it has rested


def test_a_flood_that_is_larger_than_the_pace_is_not_told_all_at_once() -> None:
    pace = Pace()
    delays = [pace.delay("flood", 100.0) for _ in range(10 * PER_SECOND)]
    assert max(delays) <= LONGEST_SECONDS
    told = Counter(int(delay * 20) for delay in delays if delay)  # by the twentieth of a second
    assert max(told.values()) < 10 * PER_SECOND / 10


@given(st.lists(st.floats(0, 0.1), max_size=300))
def test_who_is_refused_first_is_told_first(pauses: list[float]) -> None:
    pace, now, told = Pace(), 50.0, 0.0
    for pause in pauses:
        now += pause
        at = now + pace.delay("flood", now)
        assert now <= at <= now + LONGEST_SECONDS + 1e-9
        assert at >= told - 1e-9
        told = at


def test_tenants_that_have_rested_are_forgotten() -> None:
    pace = Pace()
    for number in range(10 * REMEMBERED):
        pace.delay(str(number), number / 10)
    assert len(pace._next) <= REMEMBERED


def test_what_is_held_back_is_bounded_in_number_and_in_bytes() -> None:
    pace = Pace(most_held=3)
    assert [pace.hold(10) for _ in range(5)] == [True, True, True, False, False]
    pace.told(10)
    assert [pace.hold(MOST_HELD_BYTES), pace.hold(MOST_HELD_BYTES - 20), pace.hold(0)] == [False, True, False]


@pytest.mark.parametrize(("allowed", "held"), [(256, 64), (MOST_HELD * 2, MOST_HELD // 2)])
def test_most_of_the_connections_are_for_others(monkeypatch: pytest.MonkeyPatch, allowed: int, held: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (allowed, allowed))
    pace = Pace()
    assert [pace.hold(0) for _ in range(held)] == [True] * held
    assert not pace.hold(0)


def test_no_more_are_held_than_memory_should_be_spent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    pace = Pace()
    assert [pace.hold(0) for _ in range(MOST_HELD)] == [True] * MOST_HELD
    assert not pace.hold(0)
