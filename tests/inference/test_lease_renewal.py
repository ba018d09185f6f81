"""Who asks all the time has the next period leased when one ends, and no request waits for it; who rests has not."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from inference.plane import clock
from inference.plane.directory import KeyEntry, TenantEntry
from inference.plane.leases import Leases
from tenants.errors import Unavailable
from tenants.limits import quotas
from tenants.limits.quota_limits import Limit
from tenants.limits.quotas import Grant

LIMIT = Limit("tenant", "predictions", "minute", 1000, "plan")


class Minutes:
    """A fake of the clock, its timers, and the database, which grants what is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 600.0
        self.asked: list[float] = []
        self.fails = False
        self.timers: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []
        self.key = entry(LIMIT)
        monkeypatch.setattr(clock, "now", lambda: self.now)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self.call_later)
        self.leases = Leases(producer="p", in_thread=self.in_thread)

    def call_later(self, wait: float, call: Callable[..., Any], *arguments: Any) -> None:
        self.timers.append((self.now + wait, call, arguments))

    def in_thread(self, call: Callable[..., Any], verb: Callable[..., Any], given: Any) -> "asyncio.Future[Any]":
        del call
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if verb is not quotas.lease:
            answer.set_result(None)
        elif self.fails:
            answer.set_exception(Unavailable("no database", retry_after=1))
        else:
            self.asked.append(self.now)
            start = self.now // 60 * 60
            begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in (start, start + 60))
            answer.set_result([Grant(ask.wanted, 1000, 1000 - ask.wanted, begins, ends) for ask in given["asks"]])
        return answer

    async def until(self, moment: float) -> None:
        """Goes on to that moment, and lets everything happen that is due by then."""
        while due := sorted((timer for timer in self.timers if timer[0] <= moment), key=lambda timer: timer[0]):
            self.timers.remove(due[0])
            self.now, call, arguments = due[0]
            call(*arguments)
            for _ in range(10):
                await asyncio.sleep(0)
        self.now = moment

    def asks(self) -> bool:
        """Whether a request of one row is answered at once."""
        return self.leases.spend(self.key, "cats", 1) is not None


def entry(*limits: Limit) -> KeyEntry:
    return KeyEntry("key_1", b"", TenantEntry("ten_1", "acme", {}, limits), frozenset(), None)


def told(monkeypatch: pytest.MonkeyPatch, story: Callable[[Minutes], Coroutine[Any, Any, None]]) -> None:
    async def begun() -> None:
        minutes = Minutes(monkeypatch)
        await minutes.until(610)
        assert not minutes.asks()
        await minutes.leases.fill(minutes.key, "cats", 1)
        assert minutes.asks()
        assert minutes.asked == [610]
        await story(minutes)
        await minutes.leases.stop()

    asyncio.run(begun())


def test_who_asks_at_the_end_of_a_minute_waits_in_none_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(minutes: Minutes) -> None:
        for number in (1, 2, 3):
            end = 600 + number * 60
            await minutes.until(end - 1)
            assert minutes.asks()
            await minutes.until(end + 0.1)
            assert len(minutes.asked) == number + 1
            assert end < minutes.asked[-1] < end + 0.1
            assert minutes.asks()

    told(monkeypatch, story)


def test_who_has_rested_is_asked_for_when_he_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(minutes: Minutes) -> None:
        await minutes.until(650)
        assert minutes.asks()
        await minutes.until(700)
        assert len(minutes.asked) == 1
        assert not minutes.asks()
        await minutes.leases.fill(minutes.key, "cats", 1)
        assert minutes.asks()
        await minutes.until(719)
        assert minutes.asks()
        await minutes.until(721)
        assert len(minutes.asked) == 3

    told(monkeypatch, story)


def test_a_month_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(minutes: Minutes) -> None:
        (month,) = minutes.leases.of(minutes.key, "cats").leases
        month.ends_at = minutes.now + 86400
        minutes.timers.clear()
        await minutes.leases.fill(minutes.key, "cats", 1)
        assert minutes.timers == []

    told(monkeypatch, story)


@pytest.mark.parametrize("why", ["another limit", "stopped", "no database"])
def test_what_cannot_or_need_not_be_renewed_is_left(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    async def story(minutes: Minutes) -> None:
        await minutes.until(659)
        assert minutes.asks()
        if why == "another limit":
            minutes.leases.of(entry(Limit("tenant", "predictions", "minute", 7, "plan")), "cats")
        elif why == "stopped":
            await minutes.leases.stop()
        minutes.fails = why == "no database"
        await minutes.until(661)
        assert len(minutes.asked) == 1
        if why == "no database":
            minutes.fails = False
            await minutes.leases.fill(minutes.key, "cats", 1)
            assert minutes.asks()

    told(monkeypatch, story)
