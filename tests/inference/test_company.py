"""Who computes before whom while several tenants ask, and who starves of those that compute in idle time only."""

from collections.abc import Iterator

import pytest

from inference import company
from inference.company import COMPANY_SECONDS, PAUSE_SECONDS, STARVED_SECONDS, Company, Hunger, Rank

ENGINES = 2
STEP = 0.01


def asking(found: Company, parts: dict[str, float], *, begun: float, seconds: float = 3.0) -> float:
    """Tenants that have such a part of the engines for a while; gives the moment of its end."""
    now = begun
    while now < begun + seconds:
        now += STEP
        for tenant, part in parts.items():
            found.served(tenant, now)
            found.charge(tenant, part * ENGINES * STEP, now)
    return now


def ranks(found: Company, now: float, *tenants: str) -> list[Rank]:
    return [found.rank(tenant, now) for tenant in tenants]


def test_who_asks_alone_computes_as_always() -> None:
    found = Company(ENGINES)
    assert found.rank("flood", 0.0) is Rank.COMMON
    now = asking(found, {"flood": 0.98}, begun=0.0)
    assert found.rank("flood", now) is Rank.COMMON
    assert not found.several


def test_more_than_an_even_share_is_last_and_next_to_nothing_first() -> None:
    found = Company(ENGINES)
    now = asking(found, {"flood": 0.66, "some": 0.3, "quiet": 0.02}, begun=0.0)
    assert found.several
    assert ranks(found, now, "flood", "some", "quiet", "new") == [Rank.LAST, Rank.COMMON, Rank.FIRST, Rank.FIRST]


def test_a_flood_is_last_as_soon_as_another_asks() -> None:
    found = Company(ENGINES)
    now = asking(found, {"flood": 0.98}, begun=0.0)
    found.served("quiet", now)
    assert ranks(found, now, "flood", "quiet") == [Rank.LAST, Rank.FIRST]


def test_all_that_are_first_have_a_quarter_of_the_engines_together() -> None:
    found, many = Company(ENGINES), {f"quiet-{number}": 0.2 / 8 for number in range(8)}
    now = asking(found, many | {"flood": 0.75}, begun=0.0)
    assert set(ranks(found, now, *many)) == {Rank.FIRST}
    more = dict.fromkeys(many, 0.3 / 8)
    assert set(ranks(found, asking(found, more | {"flood": 0.65}, begun=now), *many)) == {Rank.COMMON}


def test_who_is_last_stays_so_until_it_asks_for_less() -> None:
    """Else what it has begun would be left without a processor beside what it begins then."""
    found = Company(ENGINES)
    now = asking(found, {"flood": 0.9, "quiet": 0.02}, begun=0.0)
    assert found.rank("flood", now) is Rank.LAST
    now = asking(found, {"flood": 0.6}, begun=now)
    assert not found.several
    assert found.rank("flood", now) is Rank.LAST
    now = asking(found, {"flood": 0.4}, begun=now)
    assert found.rank("flood", now) is Rank.COMMON
    now = asking(found, {"flood": 0.9}, begun=now)
    assert found.rank("flood", now) is Rank.COMMON


def test_who_has_not_asked_for_a_while_is_company_no_more() -> None:
    found = Company(ENGINES)
    found.served("seldom", 10.0)
    found.served("flood", 10.0 + 0.9 * COMPANY_SECONDS)
    assert found.several
    found.served("flood", 10.0 + 1.1 * COMPANY_SECONDS)
    assert not found.several


def test_where_there_is_no_idle_time_all_compute_alike() -> None:
    found = Company(ENGINES, ranks=False)
    now = asking(found, {"flood": 0.9, "quiet": 0.02}, begun=0.0)
    assert ranks(found, now, "flood", "quiet", "new") == [Rank.COMMON] * 3
    assert found.several


def test_a_pause_is_told_to_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    Company(ENGINES).pause(0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "who computes in idle time only had no processor: for 2 s nobody does"
    ]


def test_nobody_is_last_for_a_while_after_one_starved_and_longer_each_time() -> None:
    found = Company(ENGINES)
    both = {"flood": 0.9, "quiet": 0.02}
    pause, now = PAUSE_SECONDS, asking(found, both, begun=0.0)
    for _ in range(9):
        found.pause(now)
        now = asking(found, both, begun=now + pause - 2.0, seconds=1.9)
        assert ranks(found, now, "flood", "quiet") == [Rank.COMMON, Rank.FIRST]
        now = asking(found, both, begun=now, seconds=0.2)
        assert found.rank("flood", now) is Rank.LAST
        pause = min(company.LONGER * pause, company.LONGEST_PAUSE_SECONDS)
    assert pause == company.LONGEST_PAUSE_SECONDS
    now = asking(found, both, begun=now + 3 * pause)
    found.pause(now)
    assert found.rank("flood", asking(found, both, begun=now + PAUSE_SECONDS)) is Rank.LAST


def test_two_that_starve_at_once_are_one_pause(caplog: pytest.LogCaptureFixture) -> None:
    found = Company(ENGINES)
    now = asking(found, {"flood": 0.9, "quiet": 0.02}, begun=0.0)
    found.pause(now)
    found.pause(now + PAUSE_SECONDS / 2)
    assert len(caplog.records) == 1
    now = asking(found, {"flood": 0.9, "quiet": 0.02}, begun=now, seconds=PAUSE_SECONDS + 0.1)
    assert found.rank("flood", now) is Rank.LAST


class Thread:
    """A fake thread: what the system says of how long it computed, and how long it waited for a processor."""

    def __init__(self) -> None:
        self.computed = self.waited = 0.0

    def __call__(self) -> tuple[float, float]:
        return self.computed, self.waited

    def goes_on(self, hunger: Hunger, *, computed: float, waited: float, seconds: float) -> Iterator[bool]:
        """After each batch, whether it starves."""
        for _ in range(round(seconds / 0.01)):
            self.computed += computed * 0.01
            self.waited += waited * 0.01
            yield hunger.starves()


def test_who_has_a_processor_most_of_the_time_does_not_starve() -> None:
    hunger = Hunger(thread := Thread())
    assert not any(thread.goes_on(hunger, computed=0.8, waited=0.2, seconds=60))
    assert not any(thread.goes_on(hunger, computed=0.55, waited=0.45, seconds=60))


def test_who_has_less_than_half_a_processor_starves() -> None:
    hunger = Hunger(thread := Thread())
    assert any(thread.goes_on(hunger, computed=0.42, waited=0.58, seconds=10))


def test_who_has_next_to_nothing_starves_within_a_few_seconds_whatever_was_before() -> None:
    hunger = Hunger(thread := Thread())
    assert not any(thread.goes_on(hunger, computed=0.9, waited=0.1, seconds=600))
    assert any(thread.goes_on(hunger, computed=0.01, waited=0.99, seconds=4))


@pytest.mark.parametrize("waited", [STARVED_SECONDS * 0.9, STARVED_SECONDS * 1.1])
def test_a_moment_without_a_processor_is_no_hunger(waited: float) -> None:
    hunger = Hunger(thread := Thread())
    thread.waited += waited
    assert hunger.starves() is (waited > STARVED_SECONDS)
    assert not hunger.starves()
