"""Keys on the prediction plane, where two server processes share a port: lists, networks, and how keys end."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import psycopg2
import pytest
from django.utils import timezone

from aiaas_site import embedded_database
from inference.plane import feed
from inference.plane.feed import CATCH_UP_SECONDS
from tenants import scoping
from tenants.keys import api_keys
from tenants.models import ApiKey
from tests.conftest import Account
from tests.inference.conftest import PlaneSite
from tests.inference.test_plane import PREDICT, ROWS
from tests.live import LiveSite, free_port

OFFICE, ELSEWHERE = "192.0.2.7", "198.51.100.7"
PATIENCE = 60.0


@dataclass
class Pair:
    """Two server processes at one port, and a connection to each; they believe what loopback says of addresses."""

    site: LiveSite
    url: str
    owner: httpx.Client
    lines: dict[int, httpx.Client]

    def make(self, *, sender: str = "192.0.2.7", **wanted: Any) -> Any:
        """A new key, which each process knows when this returns."""
        made = self.owner.post("/api/v1/api-keys", json={"name": "k", "scopes": ["predict", "read"]} | wanted)
        assert made.status_code == 201, made.text
        self.until(lambda line: ask(line, made.json()["key"], sender=sender).status_code != 401)
        return made.json()

    def until(self, seen: Callable[[httpx.Client], bool]) -> dict[int, float]:
        """Waits until each process shows it; says how many seconds that took in which."""
        began, took = time.monotonic(), dict[int, float]()
        while len(took) < len(self.lines):
            for pid, line in self.lines.items():
                if pid not in took and seen(line):
                    took[pid] = time.monotonic() - began
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.002)
        return took


def ask(line: httpx.Client, key: str, *, sender: str = OFFICE, path: str = PREDICT, method: str = "POST") -> Any:
    """A request as a proxy hands it on."""
    headers = {"X-API-Key": key, "X-Forwarded-For": sender}
    return line.request(method, path, headers=headers, json=ROWS if method == "POST" else None)


@pytest.fixture(scope="module")
def pair(plane: PlaneSite) -> Iterator[Pair]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    server = plane.site.start_server(port=port, processes=2, TRUSTED_PROXIES="127.0.0.0/8")
    with contextlib.ExitStack() as open_until_the_end:
        owner = open_until_the_end.enter_context(
            httpx.Client(base_url=url, headers={"X-API-Key": plane.acme_key}, timeout=30)
        )
        pids = {child.pid for child in psutil.Process(server.pid).children()}
        lines: dict[int, httpx.Client] = {}
        deadline = time.monotonic() + PATIENCE
        while lines.keys() != pids:
            assert time.monotonic() < deadline, "the kernel deals new connections out to one process only"
            line = open_until_the_end.enter_context(httpx.Client(base_url=url, timeout=30))
            with contextlib.suppress(httpx.TransportError):  # the second process may still be starting
                lines.setdefault(process_at(line, pids), line)
        yield Pair(plane.site, url, owner, lines)
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="module")
def office_key(pair: Pair) -> str:
    return str(pair.make(networks=["192.0.2.0/24"])["key"])


def process_at(line: httpx.Client, pids: set[int]) -> int:
    """The process at the other end of a connection."""
    answer = line.get("/healthz")
    _, port = answer.extensions["network_stream"].get_extra_info("client_addr")
    (pid,) = [
        pid
        for pid in pids
        for one in psutil.Process(pid).net_connections("tcp")
        if one.raddr and one.raddr.port == port
    ]
    return pid


# What a key may call, and from where


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/{}:predict"),
        ("GET", "/v1/models/{}"),
        ("GET", "/v1/models/{}/metadata"),
        ("POST", "/api/v1/deployments/{}/predict"),
        ("POST", "/v2/models/{}/infer"),
        ("GET", "/v2/models/{}"),
        ("GET", "/v2/models/{}/ready"),
        ("GET", "/v2/models/{}/stats"),
        ("POST", "/v2/repository/models/{}/load"),
        ("POST", "/v2/repository/models/{}/unload"),
    ],
)
def test_a_deployment_that_is_not_on_the_list_is_like_one_that_is_not_there(pair: Pair, method: str, path: str) -> None:
    key = pair.make(deployments=["tiny"])["key"]
    for line in pair.lines.values():
        listed, other, missing = (
            ask(line, key, method=method, path=path.format(name)) for name in ("tiny", "identity", "nothing_")
        )
        assert listed.status_code != 404
        assert other.status_code == missing.status_code == 404
        assert other.text.replace("identity", "?") == missing.text.replace("nothing_", "?")
        assert shown(other) == shown(missing)


def test_a_key_with_a_list_sees_no_more_than_that(pair: Pair) -> None:
    key = pair.make(deployments=["tiny"])["key"]
    (line, *_) = pair.lines.values()
    assert ask(line, key, method="GET", path="/v1/models").json() == {"models": ["tiny"]}
    assert [one["name"] for one in ask(line, key, path="/v2/repository/index").json()] == ["tiny"]
    stats = ask(line, key, method="GET", path="/v2/models/stats").json()["model_stats"]
    assert [one["name"] for one in stats] == ["tiny"]


def test_a_key_works_from_its_networks_only(pair: Pair) -> None:
    key = pair.make(networks=["192.0.2.0/24"])["key"]
    large = json.dumps(ROWS) + " " * 200_000  # takes the long way
    for line in pair.lines.values():
        for sender, status in ((OFFICE, 200), (f"::ffff:{OFFICE}", 200), (ELSEWHERE, 401), ("nonsense", 401)):
            assert ask(line, key, sender=sender).status_code == status
            headers = {"X-API-Key": key, "X-Forwarded-For": f"{OFFICE}, {sender}"}
            assert line.post(PREDICT, content=large, headers=headers).status_code == status
        assert line.post(PREDICT, json=ROWS, headers={"X-API-Key": key}).status_code == 401  # it is loopback itself


@pytest.mark.parametrize("path", [PREDICT, "/api/v1/me", "/api/v1/batch-predictions/bat_none/events"])
@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        ([("X-Forwarded-For", OFFICE)], True),
        ([("X-Forwarded-For", ELSEWHERE), ("X-Forwarded-For", OFFICE)], True),  # a proxy may add a line of its own
        ([("X-Forwarded-For", OFFICE), ("X-Forwarded-For", ELSEWHERE)], False),
        ([("X-Forwarded-For", ELSEWHERE), ("X_Forwarded_For", OFFICE)], False),
        ([("X_Forwarded_For", OFFICE)], False),
        ([("Forwarded", f"for={OFFICE}"), ("X-Real-IP", OFFICE)], False),
    ],
)
def test_a_client_cannot_claim_an_address(
    pair: Pair, office_key: str, path: str, lines: list[tuple[str, str]], taken: bool
) -> None:
    (line, *_) = pair.lines.values()
    method, body = ("POST", ROWS) if path == PREDICT else ("GET", None)
    answer = line.request(method, path, headers=[("X-API-Key", office_key), *lines], json=body)
    assert (answer.status_code != 401) == taken


def test_a_stream_of_events_is_opened_from_the_keys_networks_only(pair: Pair) -> None:
    key = pair.make(networks=["192.0.2.0/24"])["key"]
    (line, *_) = pair.lines.values()
    path = "/api/v1/batch-predictions/bat_none/events"
    assert ask(line, key, method="GET", path=path).status_code == 404
    refused = ask(line, key, method="GET", path=path, sender=ELSEWHERE)
    unknown = ask(line, api_keys.draw(), method="GET", path=path)
    assert refused.status_code == 401
    assert (refused.text, shown(refused)) == (unknown.text, shown(unknown))


def test_a_key_that_cannot_be_read_is_left_out_and_harms_no_other(acme: Account) -> None:
    with scoping.operator():
        now = timezone.now()
        broken = api_keys.create(tenant=acme.tenant, name="k", scopes=["predict"], actor="test", now=now).row
        ApiKey.across_tenants.filter(pk=broken.pk).update(networks=["office"])
    keys, _ = feed.read(acme.tenant.pk)[acme.tenant.pk]
    assert [key.digest for key in keys] == [api_keys.digest(acme.key)]


@pytest.mark.parametrize("path", [PREDICT, "/api/v1/deployments/identity/predict", "/v2/models/identity/infer"])
def test_every_key_that_does_not_work_gets_the_same_answer(pair: Pair, path: str) -> None:
    made, bound = pair.make(), pair.make(networks=["203.0.113.0/24"], sender="203.0.113.1")
    ended = pair.make()
    pair.owner.delete(f"/api/v1/api-keys/{ended['id']}")
    soon = pair.make(expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3)))
    pair.until(lambda line: ask(line, ended["key"]).status_code == 401)
    pair.until(lambda line: ask(line, soon["key"]).status_code == 401)
    key = made["key"]
    wrong = [
        api_keys.draw(), ended["key"], soon["key"], bound["key"], key[:-1], key[:-6], key + "0", key.swapcase(),
        key[:-1] + ("0" if key[-1] != "0" else "1"), key.replace("_local_", "_live_"), "nonsense", "a" * 5000, "_",
    ]  # fmt: skip
    for line in pair.lines.values():
        answers = [ask(line, text, path=path) for text in wrong]
        assert {answer.status_code for answer in answers} == {401}
        assert len({(answer.text, shown(answer)) for answer in answers}) == 1
        assert ask(line, key, path=path).status_code != 401


def shown(answer: httpx.Response) -> tuple[tuple[str, str], ...]:
    """The headers, but for those that differ with each request."""
    varying = {"x-request-id", "date", "content-length", "ratelimit"}
    return tuple(sorted((name, value) for name, value in answer.headers.items() if name not in varying))


# How keys end, and when they were used


def test_a_revoked_key_is_refused_by_every_process(pair: Pair, record_property: Callable[[str, object], None]) -> None:
    """By order, not by the clock: a name that is not known is answered when all that was committed has been heard."""
    seconds: list[float] = []
    for _ in range(10):
        key = pair.make()
        assert pair.owner.delete(f"/api/v1/api-keys/{key['id']}").status_code == 200
        seconds += pair.until(lambda line, key=key: ask(line, key["key"]).status_code == 401).values()  # type: ignore[misc]
        ordered = pair.make()
        pair.owner.delete(f"/api/v1/api-keys/{ordered['id']}")
        for line in pair.lines.values():
            asked = time.monotonic()
            assert line.post("/v1/models/nope:predict", headers=pair.owner.headers, json=ROWS).status_code == 404
            if time.monotonic() - asked < CATCH_UP_SECONDS:  # else it gave up waiting, and nothing follows
                assert ask(line, ordered["key"]).status_code == 401
    record_property("seconds until refused", sorted(seconds))
    print(f"refused after, in seconds: {', '.join(f'{one:.4f}' for one in sorted(seconds))}")


def test_a_rotated_key_works_on_for_its_grace_in_every_process(pair: Pair) -> None:
    kept, dropped = pair.make(), pair.make()
    new = pair.owner.post(f"/api/v1/api-keys/{kept['id']}/rotate", json={}).json()
    pair.owner.post(f"/api/v1/api-keys/{dropped['id']}/rotate", json={"grace_seconds": 0})
    pair.until(lambda line: ask(line, new["key"]).status_code == 200)
    pair.until(lambda line: ask(line, dropped["key"]).status_code == 401)
    assert {ask(line, kept["key"]).status_code for line in pair.lines.values()} == {200}


def test_a_leaked_key_is_refused_by_every_process(pair: Pair) -> None:
    key = pair.make()["key"]
    assert httpx.post(f"{pair.url}/api/v1/leaked-keys", json={"key": key}).status_code == 202
    pair.until(lambda line: ask(line, key).status_code == 401)


def test_a_prediction_is_a_use_of_its_key(pair: Pair) -> None:
    made = pair.owner.post("/api/v1/api-keys", json={"name": "k", "scopes": ["predict"]}).json()
    before = pair.owner.get(f"/api/v1/api-keys/{made['id']}").json()
    assert before["last_used_at"] is None
    pair.until(lambda line: ask(line, made["key"]).status_code == 200)
    pair.until(lambda _: pair.owner.get(f"/api/v1/api-keys/{made['id']}").json()["last_used_at"] is not None)


def test_who_cannot_hear_the_feed_refuses_and_answers_no_key_that_was_revoked_meanwhile(pair: Pair) -> None:
    key, other = pair.make(), pair.make()
    pair.site.superuser("ALTER DATABASE {} CONNECTION LIMIT 0")  # of which superusers know nothing
    try:
        pair.site.superuser("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'")
        # Before that a quota that cannot be leased may be the reason for a refusal.
        pair.until(lambda line: "lost sight of its database" in ask(line, key["key"]).text)
        refused = [ask(line, key["key"]) for line in pair.lines.values()]
        assert {answer.status_code for answer in refused} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {line.get("/healthz").status_code for line in pair.lines.values()} == {503}
        revoke_behind_its_back(pair.site, key["id"])
        assert {ask(line, key["key"]).status_code for line in pair.lines.values()} == {503}
    finally:
        pair.site.superuser("ALTER DATABASE {} CONNECTION LIMIT -1")
    seen = set()

    def is_back(line: httpx.Client) -> bool:
        seen.add(ask(line, key["key"]).status_code)
        return bool(ask(line, other["key"]).status_code == 200)

    pair.until(is_back)
    assert seen | {ask(line, key["key"]).status_code for line in pair.lines.values()} <= {401, 503}


def revoke_behind_its_back(site: LiveSite, key_id: str) -> None:
    """As another server would that still has the database."""
    address = embedded_database.ensure_started_server().get_uri(database=site.database)
    with contextlib.closing(psycopg2.connect(address)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_apikey SET revoked_at = now() WHERE id = %s", [key_id])
        assert cursor.rowcount == 1
