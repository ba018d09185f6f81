"""The last unit of a quota over four server processes, floods that leave, a process that is killed: nothing is lost."""

import asyncio
import json
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.inference.conftest import model_files
from tests.live import LiveSite, free_port, live_site
from tests.publishing import IDENTITY, TINY, make_key, publish

__all__ = ["model_files"]

PROCESSES = 4
CLIENTS = 200
SECONDS = 60
ROW = [0, 0, 0, 0]
OPEN = """
from decimal import Decimal
from django.utils import timezone
from tenants import accounts, scoping
from tenants.models import Plan, Price
now = timezone.now()
with scoping.operator():
    plan = Plan.objects.create(code="bare", name="Bare")
    Price.objects.create(plan=plan, meter="predictions", valid_from=now.date().replace(day=1), amount=Decimal("0.10"),
                         unit="prediction")
    accounts.create_tenant(name="bare", plan=plan, actor="operator:test", now=now)
print(1)
"""
BUCKETS = """
import json
from django.db.models import Sum
from tenants import scoping
from tenants.models import QuotaBucket, QuotaLease, UsageHour
with scoping.operator():
    rows = QuotaBucket.across_tenants.exclude(period="minute")
    ledger = UsageHour.across_tenants.filter(meter="predictions").aggregate(s=Sum("quantity"))["s"] or 0
    print(json.dumps({"buckets": {f"{b.scope} {b.meter} {b.period}": [b.limit, b.consumed, b.leased] for b in rows},
        "leases": QuotaLease.across_tenants.filter(units__gt=0).count(), "ledger": int(ledger)}))
"""


class Four:
    """Four servers on one database, each with a port of its own; a tenant on a plan without limits."""

    def __init__(self, site: LiveSite, files: dict[str, Path]) -> None:
        self.site = site
        site.python(OPEN)
        publish(site, tenant="bare", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
        publish(site, tenant="bare", model="same", path=files["identity.tflite"], deployment="same", **IDENTITY)
        self.key = make_key(site, "bare")
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        self.acknowledged = 0

    def start(self) -> None:
        ports = [free_port() for _ in range(PROCESSES)]
        for port in ports:
            command = ("-m", "aiaas_site.server", "--port", str(port))
            self.servers[port] = self.site.spawn(*command)
        for port, process in self.servers.items():
            self.site.wait_until_ready(process, f"http://127.0.0.1:{port}", SECONDS * 2)
        # Loaded, so that no request waits for it; on a busy host a server may be behind at first.
        until(lambda: all(self.api("GET", "/v1/models/tiny", port=port).status_code == 200 for port in ports))

    def stop(self) -> None:
        for process in self.servers.values():
            process.send_signal(signal.SIGTERM)
        for process in self.servers.values():
            process.wait(SECONDS)
        self.servers = {}

    @property
    def ports(self) -> list[int]:
        return list(self.servers)

    def api(self, method: str, path: str, *, port: int | None = None, **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{port or self.ports[0]}{path}"
        return httpx.request(method, url, headers=self.headers, timeout=SECONDS, **options)

    def ask(self, port: int, deployment: str = "tiny", rows: int = 1) -> httpx.Response:
        path = f"/v1/models/{deployment}:predict"
        answer = self.api("POST", path, port=port, json={"instances": [ROW] * rows})
        self.acknowledged += rows * (answer.status_code == 200)
        return answer

    def limit(self, **body: Any) -> httpx.Response:
        answer = self.api("POST", "/api/v1/quota-limits", json={"meter": "predictions"} | body)
        assert answer.status_code == 201, answer.text
        return answer

    def crowd(self, clients: int = CLIENTS, deployment: str = "tiny") -> Counter[int]:
        """How many clients, spread over the servers and all at once, were answered what."""

        async def all_at_once() -> list[int]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(headers=self.headers, timeout=SECONDS, limits=limits) as client:

                async def one(number: int) -> int:
                    port = self.ports[number % len(self.ports)]
                    url = f"http://127.0.0.1:{port}/v1/models/{deployment}:predict"
                    return (await client.post(url, json={"instances": [ROW]})).status_code

                return await asyncio.gather(*[one(number) for number in range(clients)])

        found = Counter(asyncio.run(all_at_once()))
        self.acknowledged += found[200]
        return found

    def settled(self) -> int:
        """How many predictions there were, once all of them are in the ledger."""
        until(lambda: self.ledger()["ledger"] == self.acknowledged, lambda: (self.ledger(), self.acknowledged))
        return self.acknowledged

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.site.python(BUCKETS)
        return found


@pytest.fixture(scope="module")
def four(model_files: dict[str, Path]) -> Iterator[Four]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        found = Four(site, model_files)
        found.start()
        yield found


def until(wanted: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + SECONDS
    while not wanted():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def key_id(four: Four) -> str:
    return str(four.api("GET", "/api/v1/me").json()["caller"]["id"])


@pytest.mark.parametrize("where", ["tenant", "key", "deployment"])
def test_exactly_one_of_200_clients_gets_the_last_unit(four: Four, where: str) -> None:
    """The units before it are used up at all four, each of which may hold what it leased and did not use."""
    scope = {"tenant": "tenant", "key": f"key:{key_id(four)}", "deployment": "deployment:tiny"}[where]
    before = four.settled()
    row = four.limit(scope=scope, period="month", limit=before + 42).json()
    try:
        until(lambda: all('month"' in seen(four, port) for port in four.ports))
        passed = sum(four.ask(port).status_code == 200 for _ in range(10) for port in four.ports)
        assert passed == 40
        assert four.ask(four.ports[1]).status_code == 200
        assert four.crowd() == {200: 1, 429: CLIENTS - 1}
        refused = four.ask(four.ports[2])
        assert "0 are left of this month" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) > 0
        until(lambda: four.ledger()["buckets"][f"{scope} predictions month"][1] == before + 42, four.ledger)
        assert refused.headers["x-quota-warning"].endswith(";used=100")
    finally:
        assert four.api("DELETE", f"/api/v1/quota-limits/{row['id']}").status_code == 204
    until(lambda: all(four.ask(port).status_code == 200 for port in four.ports))  # the feed has told all of them


def seen(four: Four, port: int) -> str:
    """The limits that a server knows of."""
    answer = four.api("POST", "/v1/models/tiny:predict", port=port, json={"instances": []})
    return str(answer.headers.get("ratelimit-policy", ""))


def test_predictions_stop_where_the_money_does(four: Four) -> None:
    used = four.settled()
    assert float(four.api("GET", "/api/v1/spend-cap").json()["cost"]) == used / 10
    assert four.api("PUT", "/api/v1/spend-cap", json={"amount": f"{(used + 30) / 10:.2f}"}).status_code == 200
    try:
        four.limit(scope=f"key:{key_id(four)}", period="day", limit=10**9)
        # What came after the cap has been heard, so the cap has.
        until(lambda: all("key-day" in seen(four, port) for port in four.ports))
        while set(found := four.crowd()) != {429}:
            assert set(found) <= {200, 429}
        until(lambda: four.ledger()["ledger"] == used + 30, four.ledger)
        refused = four.ask(four.ports[3])
        assert refused.status_code == 429
        assert f"The spend cap is {(used + 30) / 10:.2f} EUR a month" in refused.json()["error"]
        body = {"dataset": "ds_1", "model": "m", "recipe": "image-classifier", "parameters": {}}
        assert four.api("POST", "/api/v1/training-jobs", json=body).status_code in (400, 429)
    finally:
        assert four.api("DELETE", "/api/v1/spend-cap").status_code == 204
    until(lambda: all(four.ask(port).status_code == 200 for port in four.ports))


def test_a_key_has_so_many_requests_under_way_over_all_servers(four: Four) -> None:
    scope = f"key:{key_id(four)}"
    row = four.limit(scope=scope, meter="concurrency", period="always", limit=1).json()
    until(lambda: all("key-concurrency" in seen(four, port) for port in four.ports))
    for _ in range(3):
        for port in four.ports:  # the one place goes from server to server
            assert four.ask(port).status_code == 200
    answers = four.crowd(80)
    assert answers[200] >= 1
    assert set(answers) <= {200, 429}
    limit, consumed, leased = four.ledger()["buckets"][f"{scope} concurrency always"]
    assert (limit, consumed) == (1, 0)
    assert leased <= 1
    assert all(four.ask(port).status_code == 200 for port in four.ports)
    assert four.api("DELETE", f"/api/v1/quota-limits/{row['id']}").status_code == 204


def test_a_limit_of_the_operators_reaches_every_server(four: Four) -> None:
    command = ("set_quota_limit", "bare", "--scope", "deployment:same", "--period", "month", "--limit")
    assert all(four.ask(port, "same").status_code == 200 for port in four.ports)
    four.site.manage(*command, "1")
    until(lambda: all(four.ask(port, "same").status_code == 429 for port in four.ports))
    assert four.ask(four.ports[0], "tiny").status_code == 200
    four.site.manage(*command, "1000")
    until(lambda: all(four.ask(port, "same").status_code == 200 for port in four.ports))


def test_a_flood_that_leaves_and_a_server_that_is_killed_leak_no_lease(four: Four) -> None:
    """Run last: it ends the servers."""
    key = key_id(four)
    for scope, period in (("tenant", "month"), ("tenant", "day"), (f"key:{key}", "day"), ("deployment:tiny", "month")):
        four.limit(scope=scope, period=period, limit=100_000)
    four.limit(scope=f"key:{key}", meter="concurrency", period="always", limit=50)
    until(lambda: all("key-concurrency" in seen(four, port) for port in four.ports))
    for turn in range(300):
        leave(four.ports[turn % PROCESSES], four.key, turn)
    victim = four.ports[-1]
    for turn in range(60):
        leave(victim, four.key, turn)
    four.servers.pop(victim).kill()
    # A server that still runs adopts what the killed one left, and returns what it held.
    until(lambda: len(list((four.site.var / "spool").iterdir())) == PROCESSES - 1)
    assert all(four.ask(port).status_code == 200 for port in four.ports)
    until(lambda: all(one["used"] + one["reserved"] + one["remaining"] == one["limit"] for one in quotas_of(four)))
    four.stop()
    found = four.ledger()
    assert found["leases"] == 0
    assert all(leased == 0 for _, _, leased in found["buckets"].values()), found
    assert found["buckets"]["tenant predictions month"][1] == found["ledger"]
    assert found["buckets"][f"key:{key} predictions day"][1] == found["ledger"]
    assert not list((four.site.var / "spool").iterdir())


def quotas_of(four: Four) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = four.api("GET", "/api/v1/quotas").json()["results"]
    assert len(rows) >= 5
    return rows


def leave(port: int, key: str, turn: int) -> None:
    """A client that sends a request and goes: at once, in the middle of it, or a moment later."""
    body = json.dumps({"instances": [ROW] * (1 + turn % 9)}).encode()
    head = (
        f"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        whole = head.encode() + body
        connection.sendall(whole[: len(whole) if turn % 3 else len(whole) // 2])
        if turn % 3 == 2:
            time.sleep(0.002 * (turn % 5))
