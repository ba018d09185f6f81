"""What is settled lets go: no request waits for the garbage collector, and a refusal that is held is told."""

import asyncio
import gc
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.plane import settling
from inference.plane.exchange import Answer, Exchange, Request
from inference.plane.heads import Head
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
        settles = Flooded(0).settling
        settles._let_go([caller.work])
        assert caller.told == 1
        settles._let_go([caller.work])  # and it is told once
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
        self.refused_us = 0

    def asked(self, *, deadline: float = 0.0) -> Exchange:
        request = Request(Head("POST", "/v1/models/cats:predict", {}), b"{}")
        exchange = Exchange(request, self.told.append)
        key: Any = SimpleNamespace(tenant=SimpleNamespace(id="flood"))
        exchange.key, exchange.deadline = key, deadline
        return exchange


@pytest.fixture
def held_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood's next refusal is half a second off."""
    monkeypatch.setattr(Pace, "delay", lambda pace, tenant, now: 0.5)


async def _floods(most_held: int, count: int) -> tuple[Flooded, int, float]:
    """So many refusals at once: how many of them are told before the loop turns, and the seconds until all are."""
    flooded, began = Flooded(most_held), time.monotonic()
    for _ in range(count):
        flooded.settling.refuse(flooded.asked(), OverQuota("Too many."))
    at_once = len(flooded.told)
    flooded.refused_us = int((time.monotonic() - began) * 1e6)
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
    flooded, at_once, took = asyncio.run(_floods(2, 1))
    assert at_once == 0
    assert took >= 0.5
    assert sum(flooded.statistics.totals.total_us) == 1
    assert not any(flooded.statistics.totals.total_us[bucket(flooded.refused_us) + 1 :])


@pytest.mark.usefixtures("held_long")
def test_a_callers_deadline_shortens_how_long_its_refusal_is_held() -> None:
    flooded, refusal = Flooded(2), OverQuota("Too many.")

    def held(deadline: float) -> float:
        return flooded.settling._delay(flooded.asked(deadline=deadline), refusal)

    now = time.monotonic()
    assert held(0.0) == held(now + 60) == 0.5
    assert held(now + 0.1) == held(now - 1) == settling.LEAST_HELD_SECONDS
    assert settling.LEAST_HELD_SECONDS <= held(now + 0.4) <= 0.4


def test_an_exchange_whose_outputs_were_kept_is_let_go() -> None:
    flooded = Flooded(0)
    exchange = flooded.asked()
    asked = work(1)
    asked.render = exchange.keeping(asked.render)
    call: Any = SimpleNamespace(render=asked.render)
    deployment: Any = SimpleNamespace(name="cats")
    target: Any = SimpleNamespace(shadow=None)
    exchange.work, exchange.call, exchange.deployment, exchange.target = asked, call, deployment, target
    gc.disable()
    try:
        asked.render({"y": np.ones((1, 1), np.float32)})
        assert exchange.outputs is not None
        outputs = weakref.ref(exchange.outputs["y"])
        flooded.settling._look_again(exchange, asked, time.monotonic())
        del exchange, asked, call
        assert outputs() is None
    finally:
        gc.enable()


def test_an_answer_that_cannot_be_delivered_leaves_its_place_all_the_same() -> None:
    settled, left = Flooded(0).settling, []
    exchange = Flooded(0).asked()
    place: Any = SimpleNamespace(leave=lambda: left.append(True))
    exchange.place = place

    def broken(answer: Answer) -> None:
        raise ConnectionResetError

    exchange.deliver = broken
    with pytest.raises(ConnectionResetError):
        settled.answer(exchange, Answer(200, b"", []))
    assert (exchange.done, left) == (True, [True])
