"""One tenant floods the server: its requests are refused with 429, and another tenant's are answered, ahead of its."""

import asyncio
import collections
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from benchmarks.fairness import heavy
from tests.inference.conftest import PlaneSite
from tests.lines import Answered, Line, lines
from tests.live import free_port
from tests.publishing import publish_many

ROWS, HOST_ROWS = 64, 192
DEPLOYMENTS = 5
THREADS = 2
# In the order of their coming all that wait would be answered first, which are about as many as there are rows. In
# turn there are those that run, one or two beside the answer itself, and those that the client has yet to read.
AHEAD = ROWS // 4


@dataclass(frozen=True)
class Small:
    """A server with short queues, and the keys of `flood`, of `quiet` and of others who have a heavy model each."""

    port: int
    keys: dict[str, str]


@pytest.fixture(scope="module")
def small(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    folder, wanted = tmp_path_factory.mktemp("fairness"), []
    for number, tenant in enumerate(("flood", "quiet", "third", "fourth", "fifth")):
        path = heavy(folder / f"{tenant}.onnx", answer=100.0 * number)
        about = {"path": str(path), "engine": "onnx", "inputs": ("x", (-1, 4)), "outputs": ("y", (-1, 4))}
        names = [f"heavy-{at}" for at in range(DEPLOYMENTS if tenant == "flood" else 1)]
        wanted += [{"tenant": tenant, "name": name} | about for name in names]
    keys = publish_many(plane.site, wanted, listed=folder / "wanted.json")
    port = free_port()
    server = plane.site.start_server(
        port=port,
        INFERENCE_MAX_QUEUED_ROWS=str(ROWS),
        INFERENCE_MAX_QUEUED_ROWS_HOST=str(HOST_ROWS),
        INFERENCE_THREADS=str(THREADS),
    )
    asyncio.run(_load_all(port, keys))
    yield Small(port, keys)
    server.kill()
    server.wait(10)


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
        self.statuses: collections.Counter[int] = collections.Counter()
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


@pytest.mark.parametrize(("deployments", "rows", "ahead_of_it"), [(1, 1, AHEAD), (DEPLOYMENTS, 1, AHEAD), (1, ROWS, 0)])
def test_beside_a_flood_another_tenant_is_answered_next(
    small: Small, deployments: int, rows: int, ahead_of_it: int
) -> None:
    """Sixty and more requests of the flood wait; before it come those that run, and some that run while it is read."""
    flood, ahead = Flood(deployments, rows), []

    async def main() -> None:
        done = asyncio.Event()
        async with (
            lines(small.port, 160, key=small.keys["flood"]) as many,
            lines(small.port, 1, key=small.keys["quiet"]) as (line,),
        ):
            flooding = [asyncio.ensure_future(flood.go_on(one, at, done)) for at, one in enumerate(many)]
            await asyncio.sleep(0.5)
            for _ in range(20):
                before = flood.answered
                ask(line)
                status, body, _ = await line.read_all()
                ahead.append(flood.answered - before)
                assert status == 200, body
                assert json.loads(body)["predictions"] == [[101, 102, 103, 104]]
                await asyncio.sleep(0.05)
            done.set()
            await asyncio.gather(*flooding)

    asyncio.run(main())
    assert flood.statuses.keys() == {200, 429}
    assert flood.statuses[429] > 100
    assert all(int(refused.headers["retry-after"]) >= 1 for refused in flood.refusals)
    assert sorted(ahead)[len(ahead) // 2] <= ahead_of_it


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
