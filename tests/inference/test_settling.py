"""What is settled lets go: no request waits for the garbage collector, and a refusal that is held is told."""

import asyncio
import gc
import time
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from inference.plane import settling
from inference.plane.exchange import Answer, Exchange, Request
from inference.plane.pacing import Pace
from inference.plane.statistics import Statistics, bucket
from inference.work import Work
from tenants.errors import OverQuota
from tests.inference.works import work


class Caller:
    """A receipt that holds its work, as an exchange does."""

    def __init__(self, of: Work) -> None:
        self.work, self.told = of, 0
        of.receipt = self

    def settle(self, error: Exception | None) -> None:
        self.told += error is None


def test_work_and_its_receipt_let_go_of_one_another() -> None:
    caller = Caller(work(1))
    gc.disable()
    try:
        settling._let_go([caller.work])
        assert caller.told == 1
        settling._let_go([caller.work])  # and it is told once
        assert caller.told == 1
        gone = weakref.ref(caller)
        del caller
        assert gone() is None
    finally:
        gc.enable()


class Flooded:
    """Where refusals of one tenant are settled; of the plane there is only what they need."""

    def __init__(self, most_held: int) -> None:
        known = SimpleNamespace(rate=SimpleNamespace(headers=lambda now: []))
        self.parts: dict[str, Any] = {"leases": SimpleNamespace(known=lambda key, deployment: known)}
        for part in ("spool", "cache", "shadows", "spawn"):
            self.parts[part] = None
        self.statistics = Statistics()
        self.settling = settling.Settling(**self.parts, statistics=self.statistics, pace=Pace(most_held))
        self.told: list[Answer] = []

    def refuse(self, *, deadline: float = 0.0) -> None:
        request = Request("POST", "/v1/models/cats:predict", b"", {}, b"{}")
        exchange = Exchange(request, self.told.append, lambda exchange, error: None)
        key: Any = SimpleNamespace(tenant=SimpleNamespace(id="flood"))
        exchange.key, exchange.deadline = key, deadline
        self.settling.refuse(exchange, OverQuota("Too many."))


@pytest.fixture
def held_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood's next refusal is half a second off."""
    monkeypatch.setattr(Pace, "delay", lambda pace, tenant, now: 0.5)


async def _floods(most_held: int, count: int, **asked: float) -> tuple[Flooded, int, float]:
    flooded, began = Flooded(most_held), time.monotonic()
    for _ in range(count):
        flooded.refuse(**asked)
    at_once = len(flooded.told)
    async with asyncio.timeout(10):
        while len(flooded.told) < count:
            await asyncio.sleep(0.01)
    return flooded, at_once, time.monotonic() - began


@pytest.mark.usefixtures("held_long")
def test_more_refusals_than_may_be_held_are_told_at_once() -> None:
    flooded, at_once, _ = asyncio.run(_floods(2, 5))
    assert at_once == 3
    assert [answer.status for answer in flooded.told] == [429] * 5
    assert flooded.settling.pace.hold(0)  # their places are free again


@pytest.mark.usefixtures("held_long")
def test_how_long_a_refusal_was_held_is_not_part_of_what_requests_took() -> None:
    flooded, _, took = asyncio.run(_floods(2, 1))
    assert took >= 0.5
    assert sum(flooded.statistics.totals.total_us) == 1
    assert not any(flooded.statistics.totals.total_us[bucket(400_000) :])


@pytest.mark.usefixtures("held_long")
def test_a_callers_deadline_shortens_how_long_its_refusal_is_held() -> None:
    _, at_once, took = asyncio.run(_floods(2, 1, deadline=time.monotonic() + 0.1))
    assert at_once == 0
    assert settling.LEAST_HELD_SECONDS <= took < 0.5
