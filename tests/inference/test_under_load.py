"""Many callers at once: every answer belongs to its question, whoever leaves, whatever is switched, even at the end."""

import asyncio
import collections
import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from tests.inference.conftest import PlaneSite
from tests.lines import Line
from tests.lines import lines as connections
from tests.live import free_port

CONNECTIONS = 64


def lines(plane: PlaneSite, count: int, *, port: int | None = None) -> AbstractAsyncContextManager[list[Line]]:
    return connections(port or plane.site.port, count, key=plane.acme_key)


@pytest.mark.parametrize("name", ["identity", "switched"])
def test_every_answer_belongs_to_its_question(crowd: PlaneSite, name: str) -> None:
    total = 10_000 if name == "identity" else 600
    added = 0.0 if name == "identity" else 100.0

    async def ask_all(line: Line, own: range) -> None:
        for number in own:
            rows = [[number, number + row, 0.25, row] for row in range(1 + number % 3)]
            status, body = await line.ask(f"/v1/models/{name}:predict", rows)
            assert status == 200, body
            assert json.loads(body)["predictions"] == [[value + added for value in row] for row in rows]

    async def main() -> None:
        share = total // CONNECTIONS + 1
        async with lines(crowd, CONNECTIONS) as found:
            await asyncio.gather(*(ask_all(line, range(i * share, (i + 1) * share)) for i, line in enumerate(found)))

    asyncio.run(main())


def test_a_thousand_callers_leave_and_all_others_are_answered(crowd: PlaneSite) -> None:
    chance = random.Random(7)
    left = 0

    async def leave_often(until: float) -> None:
        nonlocal left
        while time.monotonic() < until and left < 1000:
            line = await Line(crowd.site.port, crowd.acme_key).open()
            line.send("/v1/models/switched:predict", b'{"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}')
            await asyncio.sleep(chance.random() * 0.02)
            line.leave()
            left += 1
        await asyncio.sleep(0.01)

    async def stay(line: Line, own: int) -> None:
        for number in range(20):
            row = [own, number, 0.5, 0.0]
            status, body = await line.ask("/v1/models/switched:predict", [row])
            assert status == 200, body
            assert json.loads(body)["predictions"] == [[value + 100 for value in row]]

    async def main() -> None:
        until = time.monotonic() + 60
        async with lines(crowd, 8) as found:
            await asyncio.gather(
                *(stay(line, i) for i, line in enumerate(found)), *(leave_often(until) for _ in range(40))
            )
            status, _ = await found[0].ask("/v1/models/switched:predict", [[0, 0, 0, 0]])
            assert status == 200

    asyncio.run(main())
    assert left >= 1000


BILLED = """
import json
from django.db.models import Sum
from tenants import scoping
from tenants.models import UsageHour
with scoping.operator():
    rows = UsageHour.across_tenants.filter(deployment="turning", meter="requests")
    print(json.dumps({row["version"]: int(row["s"]) for row in rows.values("version").annotate(s=Sum("quantity"))}))
"""


def test_a_hundred_switches_fail_and_misroute_no_request(crowd: PlaneSite) -> None:
    """An answer says which version it is of; that version computed it, and that version is on the bill."""
    answers: collections.Counter[str] = collections.Counter()
    rows = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    small = json.dumps({"inputs": [rows]}).encode()
    large = small + b" " * 40_000  # parsed in a thread, during which the version may change

    async def ask_on(line: Line, body: bytes, done: asyncio.Event) -> None:
        while not done.is_set():
            line.send("/v2/models/turning/infer", body)
            status, found = await line.read()
            assert status == 200, found
            answer = json.loads(found)
            assert answer["outputs"][0]["data"][0] == 100 * int(answer["model_version"])
            answers[f"switched@{answer['model_version']}"] += 1

    async def switch(done: asyncio.Event) -> None:
        headers = {"X-API-Key": crowd.acme_key}
        async with httpx.AsyncClient(base_url=crowd.site.url, headers=headers, timeout=30) as client:
            for turn in range(100):
                answer = await client.patch("/api/v1/deployments/turning", json={"version": 2 - turn % 2})
                assert answer.status_code == 200, answer.text
                await asyncio.sleep(0.03)
        done.set()

    async def main() -> None:
        done = asyncio.Event()
        async with lines(crowd, 8) as found:
            asking = [ask_on(line, large if i % 2 else small, done) for i, line in enumerate(found)]
            await asyncio.gather(*asking, switch(done))

    with crowd.client() as client:
        made = client.post("/api/v1/deployments", json={"name": "turning", "model": "switched", "version": 1})
        assert made.status_code == 201, made.text
        asyncio.run(main())
        assert answers.keys() == {"switched@1", "switched@2"}
        deadline = time.monotonic() + 10
        while (billed := crowd.site.python(BILLED)) != answers:
            assert time.monotonic() < deadline, (billed, answers)
        client.delete("/api/v1/deployments/turning")


@pytest.fixture
def second(crowd: PlaneSite) -> Iterator[tuple[object, int]]:
    port = free_port()
    server = crowd.site.start_server(port=port)
    yield server, port
    server.kill()
    server.wait(10)


def test_a_server_that_is_asked_to_stop_answers_what_is_under_way(crowd: PlaneSite, second: tuple[object, int]) -> None:
    server, port = second

    async def main() -> list[tuple[int, bytes]]:
        async with lines(crowd, 30, port=port) as found:
            status, _ = await found[0].ask("/v1/models/switched:predict", [[0, 0, 0, 0]])
            assert status == 200
            for number, line in enumerate(found):
                line.send("/v1/models/switched:predict", json.dumps({"instances": [[number, 0, 0, 0]]}).encode())
            await asyncio.sleep(0.03)
            server.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
            return await asyncio.gather(*(line.read() for line in found))

    answers = asyncio.run(main())
    assert [status for status, _ in answers] == [200] * 30
    assert [json.loads(body)["predictions"][0][0] - 100 for _, body in answers] == list(range(30))
    assert server.wait(30) == 0  # type: ignore[attr-defined]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/healthz")


def test_a_server_that_is_about_to_stop_says_so_and_answers_on(crowd: PlaneSite) -> None:
    port = free_port()
    server = crowd.site.start_server(port=port, STOP_NOTICE_SECONDS="3")
    url = f"http://127.0.0.1:{port}"
    headers = {"X-API-Key": crowd.acme_key}
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
    server.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 2
    while httpx.get(f"{url}/healthz").status_code != 503:
        assert time.monotonic() < deadline
    refused = httpx.get(f"{url}/v2/health/ready")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    asked = {"instances": [[0, 0, 0, 0]]}
    assert httpx.post(f"{url}/v1/models/switched:predict", json=asked, headers=headers).status_code == 200
    assert server.wait(30) == 0
