"""One tenant floods the server: its requests are refused with 429, and another tenant's are answered, ahead of its."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.fairness import heavy
from modelhub import priority
from tests.inference.conftest import PlaneSite, identity
from tests.lines import Answered, Line, lines
from tests.live import free_port
from tests.publishing import publish_many

ROWS, HOST_ROWS = 64, 192
DEPLOYMENTS = 5
THREADS = 2
QUESTIONS = 20
PATIENCE = 10.0
# More than a thread takes to begin, less than two rows of the heavy model.
A_BATCH_SECONDS = 2e-3
# Where other programs compute, too, nobody is last for 2 and then for 16 seconds.
IDLE_TIME_PATIENCE = 60.0
# In the order of their coming all that wait would be taken first, which are about as many as there are rows.
AHEAD = THREADS


@dataclass(frozen=True)
class Small:
    """A server with short queues, and keys of `flood`, of `quiet` and of others who have a heavy model each.

    `tenants` are their names by their ids, `log` is the server's access log, and `process` its number.
    """

    port: int
    keys: dict[str, str]
    tenants: dict[str, str]
    log: Path
    process: int


@dataclass(frozen=True)
class Turn:
    """When an answered request's turn was asked for and when it came, by the server's clock, in milliseconds."""

    tenant: str
    queued: float
    taken: float


@pytest.fixture(scope="module")
def small(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    folder, wanted = tmp_path_factory.mktemp("fairness"), []
    for number, tenant in enumerate(("flood", "quiet", "third", "fourth", "fifth")):
        path = heavy(folder / f"{tenant}.onnx", answer=100.0 * number)
        about = {"path": str(path), "engine": "onnx", "inputs": ("x", (-1, 4)), "outputs": ("y", (-1, 4))}
        names = [f"heavy-{at}" for at in range(DEPLOYMENTS if tenant == "flood" else 1)]
        wanted += [{"tenant": tenant, "name": name} | about for name in names]
        if tenant == "quiet":
            small = {"path": str(identity(folder / "small.onnx", {"x": "float32"})), "outputs": ("out_x", (-1, 4))}
            wanted.append({"tenant": tenant, "name": "small"} | about | small)
    keys = publish_many(plane.site, wanted, listed=folder / "wanted.json")
    port = free_port()
    server = plane.site.start_server(
        port=port,
        INFERENCE_MAX_QUEUED_ROWS=str(ROWS),
        INFERENCE_MAX_QUEUED_ROWS_HOST=str(HOST_ROWS),
        INFERENCE_THREADS=str(THREADS),
        ACCESS_LOG=str(folder / "access.log"),
    )
    asyncio.run(_load_all(port, keys))
    yield Small(port, keys, {_id_of(port, key): name for name, key in keys.items()}, folder / "access.log", server.pid)
    server.kill()
    server.wait(10)


def _id_of(port: int, key: str) -> str:
    answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/me", headers={"X-API-Key": key})
    return str(answer.json()["tenant"]["id"])


async def _load_all(port: int, keys: dict[str, str]) -> None:
    for tenant, key in keys.items():
        async with lines(port, 1, key=key) as (line,):
            for number in range(DEPLOYMENTS if tenant == "flood" else 1):
                status, body = await line.ask(f"/v1/models/heavy-{number}:predict", [[0, 0, 0, 0]])
                assert status == 200, body


def ask(line: Line, deployment: str = "heavy-0", rows: int = 1) -> None:
    line.send(f"/v1/models/{deployment}:predict", json.dumps({"instances": [[1, 2, 3, 4]] * rows}).encode())


class Flood:
    """Connections that each ask again as soon as they are answered, on all deployments of the tenant in turn."""

    def __init__(self, deployments: int, rows: int = 1) -> None:
        self.answered = 0
        self.statuses: Counter[int] = Counter()
        self.refusals: list[Answered] = []
        self._deployments = deployments
        self._rows = rows

    async def go_on(self, line: Line, at: int, done: asyncio.Event) -> None:
        while not done.is_set():
            ask(line, f"heavy-{at % self._deployments}", self._rows)
            found = await line.read_all()
            self.statuses[found.status] += 1
            if found.status == 200:
                self.answered += 1
            else:
                self.refusals.append(found)
                await asyncio.sleep(0.002)


def in_idle_time(processes: list[psutil.Process]) -> list[float]:
    """How many seconds threads of each process have computed that do so in idle time only."""
    return [sum(_computed(process.pid, thread.id) for thread in process.threads()) for process in processes]


def _computed(process: int, thread: int) -> float:
    if os.sched_getscheduler(thread) != os.SCHED_IDLE:
        return 0.0
    return int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0]) / 1e9


async def flooded(
    port: int, keys: dict[str, str], *, seconds: float, quiet: str = "", seen: Callable[[], bool] = lambda: False
) -> None:
    """A flood of few large requests, which leaves the server its processors; the quiet asks its model of that name.

    So many connections come to each process.
    """
    flood, done = Flood(1, ROWS), asyncio.Event()
    async with lines(port, 16, key=keys["flood"]) as many, lines(port, 1, key=keys["quiet"]) as (line,):
        flooding = [asyncio.ensure_future(flood.go_on(one, at, done)) for at, one in enumerate(many)]
        until = time.monotonic() + seconds
        while time.monotonic() < until and not seen():
            if quiet:
                status, body = await line.ask(f"/v1/models/{quiet}:predict", [[1, 2, 3, 4]])
                assert status == 200, body
            await asyncio.sleep(0.1)
        done.set()
        await asyncio.gather(*flooding)


@pytest.mark.skipif(not priority.IDLE_TIME, reason="only Linux has idle time")
@pytest.mark.parametrize(("processes", "model"), [(1, "heavy-0"), (1, "small"), (2, "heavy-0")])
def test_a_flood_computes_in_idle_time_while_another_asks(
    small: Small, plane: PlaneSite, processes: int, model: str
) -> None:
    """In each process, whichever the other asks; the small model is the event loop's own.

    On a busy machine it may be for a moment only, and then nobody does for a while: each has a server of its own.
    """
    threads = str(THREADS // processes)
    server = plane.site.start_server(port=(port := free_port()), processes=processes, INFERENCE_THREADS=threads)
    try:
        serving = psutil.Process(server.pid).children() if processes > 1 else [psutil.Process(server.pid)]
        asyncio.run(flooded(port, small.keys, seconds=2.0))
        alone = in_idle_time(serving)
        beside = flooded(
            port,
            small.keys,
            seconds=IDLE_TIME_PATIENCE,
            quiet=model,
            seen=lambda: min(in_idle_time(serving)) > A_BATCH_SECONDS,
        )
        asyncio.run(beside)
        after = in_idle_time(serving)
    finally:
        server.terminate()
        server.wait(60)
    assert len(after) == processes
    assert max(alone) < A_BATCH_SECONDS, alone
    assert min(after) > A_BATCH_SECONDS, after


@pytest.mark.parametrize(("deployments", "rows"), [(1, 1), (DEPLOYMENTS, 1), (1, ROWS)])
def test_beside_a_flood_another_tenant_comes_next(small: Small, deployments: int, rows: int) -> None:
    """Sixty and more requests of the flood wait; no more of them than there are threads are taken before it.

    What was taken when is read from the server's own log: the client may be slow to read its answers.
    """
    flood = Flood(deployments, rows)
    small.log.write_bytes(b"")

    async def main() -> None:
        done = asyncio.Event()
        async with (
            lines(small.port, 160, key=small.keys["flood"]) as many,
            lines(small.port, 1, key=small.keys["quiet"]) as (line,),
        ):
            flooding = [asyncio.ensure_future(flood.go_on(one, at, done)) for at, one in enumerate(many)]
            await asyncio.sleep(0.5)
            for _ in range(QUESTIONS):
                ask(line)
                try:
                    status, body, _ = await asyncio.wait_for(line.read_all(), PATIENCE)
                except TimeoutError:
                    pytest.fail(f"the quiet waits for more than {PATIENCE:g} s beside the flood")
                assert status == 200, body
                assert json.loads(body)["predictions"] == [[101, 102, 103, 104]]
                await asyncio.sleep(0.05)
            done.set()
            await asyncio.gather(*flooding)

    asyncio.run(main())
    assert flood.statuses.keys() == {200, 429}
    assert flood.statuses[429] > 100
    assert all(int(refused.headers["retry-after"]) >= 1 for refused in flood.refusals)
    turns = _turns(small, answers=QUESTIONS + flood.statuses[200])
    quiet = [one for one in turns if one.tenant == "quiet"]
    assert len(quiet) == QUESTIONS
    ahead = [sum(mine.queued < one.taken < mine.taken for one in turns if one.tenant == "flood") for mine in quiet]
    assert sorted(ahead)[len(ahead) // 2] <= AHEAD, f"taken of the flood before each question of the quiet: {ahead}"


def _turns(small: Small, *, answers: int) -> list[Turn]:
    """The answered predictions that the log tells of, when it tells of all."""
    deadline = time.monotonic() + PATIENCE
    while True:
        told = [json.loads(one) for one in small.log.read_text().splitlines()]
        found = [one for one in told if one["status"] == 200 and one["queue_us"] is not None]
        if len(found) >= answers:
            break
        assert time.monotonic() < deadline, f"the log tells of {len(found)} answers, expected {answers}"
        time.sleep(0.05)
    return [_turn(small.tenants[one["tenant"]], one) for one in found]


def _turn(tenant: str, told: dict[str, Any]) -> Turn:
    """The log tells when a request came, how long it waited in the queue, and how long it took in all."""
    queued = datetime.fromisoformat(told["time"]).timestamp() * 1e3
    return Turn(tenant, queued, queued + told["queue_us"] / 1e3)


def test_a_host_that_several_tenants_fill_refuses_the_next_with_503(small: Small) -> None:
    """Each takes half of what is left: 96, 48, 24 and 12 of 192 rows wait; one request with 64 rows finds no room."""

    async def main() -> list[tuple[str, Answered]]:
        found: list[tuple[str, Answered]] = []
        async with AsyncExitStack() as stack:
            asked: list[tuple[str, Line]] = []
            for tenant, count in (("flood", 130), ("third", 60), ("fourth", 36), ("quiet", 20)):
                for at, line in enumerate(
                    await stack.enter_async_context(lines(small.port, count, key=small.keys[tenant]))
                ):
                    ask(line, f"heavy-{at % DEPLOYMENTS if tenant == 'flood' else 0}")
                    asked.append((tenant, line))
            (last,) = await stack.enter_async_context(lines(small.port, 1, key=small.keys["fifth"]))
            ask(last, rows=ROWS)
            for tenant, line in [*asked, ("fifth", last)]:
                found.append((tenant, await line.read_all()))
        return found

    for _ in range(10):  # the engines may have been quicker than the requests came
        found = asyncio.run(main())
        fifth = next(one for tenant, one in found if tenant == "fifth")
        if fifth.status == 503:
            break
    assert fifth.status == 503
    assert int(fifth.headers["retry-after"]) >= 1
    assert "queues of this host are full" in fifth.body.decode()
    assert {one.status for tenant, one in found if tenant == "flood"} == {200, 429}
