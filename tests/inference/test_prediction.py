"""Where queued work goes: to the loop itself, or to the engines' threads, and then its deadline is watched."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from inference.plane.exchange import Answer, Exchange, Request
from inference.plane.heads import Head
from inference.plane.prediction import Predictions
from inference.work import Work
from tests.inference.works import work


class Crossing:
    """A version whose lone requests the loop runs, and what becomes of them; of the plane no more is there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, rows: int, idle: bool = True) -> None:
        self.announced = self.ran = 0
        self.late: list[Exchange] = []
        self.waiting = [[work(1)] for _ in range(rows)]
        queue = SimpleNamespace(rows=rows, has_long=lambda: False, take=self._taken)
        self.version: Any = SimpleNamespace(brought=[], tenant_id="acme", queue=queue, inline=False, run=self._run)
        parts: dict[str, Any] = dict.fromkeys(Predictions.__slots__)
        parts |= {
            "loop": loop,
            "engines": SimpleNamespace(idle=idle, announce=self._announce, passed_by=lambda tenant, now: None),
            "settling": SimpleNamespace(settle=lambda batch: None, late=self.late.append),
        }
        self.predictions = Predictions(**parts)

    def bring(self, seconds: float) -> Exchange:
        exchange = Exchange(Request(Head("POST", "/", {}), b""), _to_nobody)
        exchange.deadline = time.monotonic() + seconds
        self.predictions._flush_soon(exchange, self.version)
        return exchange

    def _taken(self, now: float) -> list[Work]:
        return self.waiting.pop() if self.waiting else []

    def _run(self, batch: list[Work], *, alone: bool) -> None:
        self.ran += alone

    def _announce(self, version: object) -> None:
        self.announced += 1


def _to_nobody(answer: Answer) -> None:
    del answer


def test_what_the_loop_runs_itself_needs_no_watch_over_its_deadline() -> None:
    async def asked() -> None:
        crossing = Crossing(asyncio.get_running_loop(), rows=1)
        exchange = crossing.bring(0.01)
        await asyncio.sleep(0.03)
        assert (crossing.ran, crossing.announced, crossing.late) == (1, 0, [])
        assert exchange.timer is None
        assert crossing.version.brought == []

    asyncio.run(asked())


@pytest.mark.parametrize(("rows", "idle"), [(2, True), (1, False)])
def test_what_goes_to_the_engines_after_all_is_told_of_its_deadline(rows: int, idle: bool) -> None:
    async def asked() -> None:
        crossing = Crossing(asyncio.get_running_loop(), rows=rows, idle=idle)
        late, in_time, left = crossing.bring(0.01), crossing.bring(60.0), crossing.bring(0.01)
        left.done = True  # its caller has gone meanwhile
        await asyncio.sleep(0.05)
        assert (crossing.ran, crossing.announced) == (0, 1)
        assert crossing.late == [late]
        assert in_time.timer is not None
        assert left.timer is None
        in_time.timer.cancel()

    asyncio.run(asked())
