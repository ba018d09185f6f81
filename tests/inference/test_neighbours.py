"""What the server processes of a host know of one another's tenants."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.company import COMPANY_SECONDS, Company, Rank
from inference.neighbours import NOTES, READ_EVERY_SECONDS, Neighbours, shared_bytes

PROCESSES = 3
SECONDS = 1.0
Of = Callable[[int], Neighbours]


@pytest.fixture
def of(tmp_path: Path) -> Of:
    """What a process knows, by the process's number."""
    shared = tmp_path / "shared"
    shared.write_bytes(bytes(shared_bytes(PROCESSES)))
    return lambda process: Neighbours(os.open(shared, os.O_RDWR), process=process, processes=PROCESSES)


def count(neighbours: Neighbours, now: float, *known: str) -> int:
    return neighbours.elsewhere(known, now, seconds=SECONDS)[0]


def flooded(of: Of, *others: str) -> tuple[list[Company], float]:
    """Two processes that a tenant has flooded, and others have asked, up to a moment."""
    both, now = [Company(1, neighbours=of(number)) for number in (0, 1)], 0.0
    while now < 3.0:
        now += 0.01
        for one in both:
            for tenant in ("flood", *others):
                one.served(tenant, now)
            one.charge("flood", 0.0098, now)
    return both, now


def test_tenants_of_the_other_processes_are_counted_once(of: Of) -> None:
    first, second, third = of(0), of(1), of(2)
    assert count(first, 10.0) == 0
    for neighbours, tenant in ((first, "a"), (second, "a"), (second, "b"), (third, "b"), (third, "c")):
        neighbours.served(tenant, 11.0)
    assert count(first, 11.1) == 3
    assert count(second, 11.1, "b") == 2
    assert count(third, 11.1, "b", "c") == 1
    assert count(third, 12.1, "b", "c") == 0, "that was a while ago"


def test_the_others_are_looked_at_now_and_then(of: Of) -> None:
    first, second = of(0), of(1)
    assert count(first, 10.0) == 0
    second.served("a", 10.0)
    assert count(first, 10.0 + 0.9 * READ_EVERY_SECONDS) == 0
    assert count(first, 10.0 + 1.1 * READ_EVERY_SECONDS) == 1


def test_of_many_tenants_the_latest_are_told(of: Of) -> None:
    first, second = of(0), of(1)
    tenants = [f"tenant-{number}" for number in range(3 * NOTES)]
    for number, tenant in enumerate(tenants):
        second.served(tenant, 10.0 + number * 1e-3)
        second.served("always", 10.0 + number * 1e-3)
    latest = ["always", *tenants[-NOTES + 1 :]]
    assert count(first, 10.1) == NOTES
    assert count(first, 10.2, *latest) == 0


def test_a_flood_is_last_in_each_process_for_a_tenant_that_asks_one_of_them(of: Of) -> None:
    both, now = flooded(of)
    assert [one.rank("flood", now) for one in both] == [Rank.COMMON] * 2
    both[0].served("quiet", now)
    now += READ_EVERY_SECONDS
    both[1].look(now)
    assert both[1].several
    assert [one.rank("flood", now) for one in both] == [Rank.LAST] * 2
    now += COMPANY_SECONDS
    both[1].look(now)
    assert not both[1].several


def test_a_pause_is_everybodys(of: Of) -> None:
    both, now = flooded(of, "quiet")
    assert [one.rank("flood", now) for one in both] == [Rank.LAST] * 2
    both[0].pause(now)
    both[1].look(now + READ_EVERY_SECONDS)
    assert [one.rank("flood", now + READ_EVERY_SECONDS) for one in both] == [Rank.COMMON] * 2
