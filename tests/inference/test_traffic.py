"""Splits, labels, pauses, roll-backs and limits of deployments, over HTTP."""

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from inference.plane.cache import Cache, key_of
from inference.plane.directory import DeploymentEntry, KeyEntry, TenantEntry, VersionEntry
from inference.plane.routing import choose
from modelhub.signatures import Signature
from tests.inference.conftest import PlaneSite
from tests.publishing import IDENTITY, TINY, publish

ROW = [1.0, 2.0, 3.0, 4.0]


@pytest.fixture(scope="module")
def canary(plane: PlaneSite) -> str:
    """acme's model `two`: version 1 answers with three numbers, version 2 with the four that it was sent."""
    publish(plane.site, tenant="acme", model="two", path=plane.files["tiny.tflite"], **TINY)
    publish(plane.site, tenant="acme", model="two", path=plane.files["identity.tflite"], **IDENTITY)
    return "two"


@pytest.fixture
def client(plane: PlaneSite, canary: str) -> Iterator[httpx.Client]:
    with plane.client() as client:
        made = client.post("/api/v1/deployments", json={"name": "front", "model": canary, "version": 1})
        assert made.status_code == 201, made.text
        yield client
        client.delete("/api/v1/deployments/front")


def ask(client: httpx.Client, *, path: str = "", rows: int = 1, user: str = "") -> httpx.Response:
    body = {"instances": [ROW] * rows}
    return client.post(f"/v1/models/front{path}:predict", json=body, headers={"X-User": user} if user else {})


def answered_by(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return 2 if answer.json()["predictions"][0] == ROW else 1


def change(client: httpx.Client, **body: Any) -> None:
    answer = client.patch("/api/v1/deployments/front", json=body)
    assert answer.status_code == 200, answer.text
    settle(client)


def settle(client: httpx.Client) -> None:
    """Until what was changed has reached the plane, which waits for the feed for a name that it does not know.

    Then a version that is new there is loaded; it takes a few milliseconds, during which another one stands in.
    """
    assert client.get("/v1/models/not-there").status_code == 404
    time.sleep(0.3)


def wait_for(check: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not check():
        assert time.monotonic() < until, "it did not come about within 10 s"
        time.sleep(0.05)


def load_both(client: httpx.Client) -> None:
    for number in (1, 2):
        assert answered_by(ask(client, path=f"/versions/{number}")) == number


def split(client: httpx.Client, first: int, **more: Any) -> None:
    targets = [{"version": 1, "weight": first}, {"version": 2, "weight": 100 - first}]
    change(client, targets=targets, **more)
    load_both(client)


def test_a_split_gives_each_version_its_share(client: httpx.Client) -> None:
    split(client, 70)
    counts = collections.Counter(answered_by(ask(client)) for _ in range(600))
    assert 350 < counts[1] < 490  # six standard deviations about 420
    shown = client.get("/api/v1/deployments/front").json()
    assert [(one["version"], one["weight"]) for one in shown["targets"]] == [(1, 70), (2, 30)]
    assert shown["version"] == 1


def test_a_sticky_split_keeps_each_caller_at_its_side(client: httpx.Client) -> None:
    split(client, 50, sticky="header:X-User")
    sides = {user: {answered_by(ask(client, user=user)) for _ in range(4)} for user in map(str, range(40))}
    assert all(len(side) == 1 for side in sides.values())
    assert {side.pop() for side in sides.values()} == {1, 2}
    split(client, 50, sticky="key")
    assert len({answered_by(ask(client)) for _ in range(20)}) == 1


def test_versions_and_labels_are_addressed(client: httpx.Client) -> None:
    assert ask(client, path="/versions/2").status_code == 404
    assert ask(client, path="/labels/next").status_code == 400
    labelled = client.put("/api/v1/deployments/front/labels/next", json={"version": 2})
    assert labelled.json()["labels"] == {"next": {"model": "two", "version": 2}}
    settle(client)
    assert answered_by(ask(client, path="/labels/next")) == 2
    assert answered_by(ask(client, path="/versions/2")) == 2
    assert answered_by(ask(client)) == 1
    assert client.delete("/api/v1/deployments/front/labels/next").status_code == 204
    assert client.delete("/api/v1/deployments/front/labels/next").status_code == 404
    settle(client)
    assert ask(client, path="/labels/next").status_code == 400


def test_a_paused_deployment_says_so_until_it_is_resumed(client: httpx.Client) -> None:
    ask(client)
    assert client.post("/api/v1/deployments/front/pause").json()["paused"] is True
    settle(client)
    refused = ask(client)
    assert (refused.status_code, "paused" in refused.text, refused.headers["retry-after"]) == (503, True, "60")
    assert client.post("/api/v1/deployments/front/resume").json()["paused"] is False
    settle(client)
    assert answered_by(ask(client)) == 1


def test_a_roll_back_ends_a_split_and_then_a_switch(client: httpx.Client) -> None:
    split(client, 50)
    assert client.post("/api/v1/deployments/front/rollback").json()["targets"] == [
        {"model": "two", "version": 1, "weight": 100}
    ]
    settle(client)
    assert {answered_by(ask(client)) for _ in range(20)} == {1}
    assert client.post("/api/v1/deployments/front/rollback").status_code == 409
    split(client, 50)
    promoted = client.post("/api/v1/deployments/front/promote", json={}).json()
    assert (promoted["version"], promoted["previous"]["version"], len(promoted["targets"])) == (2, 1, 1)
    settle(client)
    assert {answered_by(ask(client)) for _ in range(20)} == {2}
    assert client.post("/api/v1/deployments/front/rollback").json()["version"] == 1
    settle(client)
    assert {answered_by(ask(client)) for _ in range(20)} == {1}


def test_limits_of_a_deployment(client: httpx.Client) -> None:
    change(client, rows_per_request=2)
    assert ask(client, rows=2).status_code == 200
    assert ask(client, rows=3).status_code == 413
    change(client, rows_per_request=None, requests_per_minute=5)
    statuses = [ask(client).status_code for _ in range(8)]
    assert (statuses[:5], statuses[-1]) == ([200] * 5, 429)
    assert int(ask(client).headers["retry-after"]) >= 1
    change(client, requests_per_minute=None, concurrency=1)
    assert [ask(client).status_code for _ in range(5)] == [200] * 5  # each place is given back


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"targets": [{"version": 1, "weight": 50}, {"version": 2, "weight": 40}]}, "targets"),
        ({"targets": [{"version": 1, "weight": 50}, {"version": 1, "weight": 50}]}, "targets"),
        ({"targets": [{"version": 9, "weight": 100}]}, "version"),
        ({"targets": []}, "targets"),
        ({"shadow": {"version": 9}}, "version"),
        ({"sticky": "cookie"}, "sticky"),
        ({"concurrency": 0}, "concurrency"),
        ({"rollback_error_rate": 2}, "rollback_error_rate"),
        ({"model": "two"}, "version"),
        ({}, "version"),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = client.patch("/api/v1/deployments/front", json=body)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, [field])
    shown = client.get("/api/v1/deployments/front").json()
    assert [one["weight"] for one in shown["targets"]] == [100]


def test_another_tenants_deployment_is_missing(plane: PlaneSite, client: httpx.Client) -> None:
    with plane.client(plane.globex_key) as globex:
        assert ask(globex).status_code == 404
        for verb in ("rollback", "promote", "pause", "resume"):
            assert globex.post(f"/api/v1/deployments/front/{verb}", json={}).status_code == 404
        assert globex.put("/api/v1/deployments/front/labels/a", json={"version": 1}).status_code == 404


def entry(number: int) -> VersionEntry:
    return VersionEntry(f"v{number}", "t", "m", number, "", {}, "", Signature((), ()))


def test_a_canary_that_grows_keeps_its_callers() -> None:
    tenant = TenantEntry("t", "acme", {})
    keys = [KeyEntry(f"key_{i}", b"", tenant, frozenset(), None) for i in range(2000)]
    one, two = entry(1), entry(2)

    def callers(weight: int) -> set[str]:
        split = DeploymentEntry("front", one, canaries=((two, weight),), sticky="key")
        return {key.id for key in keys if choose(split, key=key, headers={}).version is two}

    few, many = callers(10), callers(30)
    assert few < many
    assert abs(len(few) / 2000 - 0.1) < 0.04
    assert abs(len(many) / 2000 - 0.3) < 0.06


def billed(client: httpx.Client, version: int) -> dict[str, int]:
    """What the ledger has of the deployment's version, by meter."""
    asked = {"deployment": "front", "version": f"two@{version}"}
    rows = client.get("/api/v1/usage", params=asked).json()["results"]
    found: collections.Counter[str] = collections.Counter()
    for row in rows:
        found[row["meter"]] += int(float(row["quantity"]))
    return dict(found)


def billed_at_last(client: httpx.Client, version: int) -> dict[str, int]:
    """What the ledger has once all segments, which are closed each second, have come in."""
    found = billed(client, version)
    while True:
        time.sleep(2)
        found, before = billed(client, version), found
        if found == before:
            return found


def test_a_shadow_is_compared_and_never_seen(client: httpx.Client) -> None:
    before = [billed_at_last(client, number) for number in (1, 2)]
    asked_times = 0
    change(client, shadow={"version": 2})
    shadow = "/api/v1/deployments/front/shadow"

    def asked() -> bool:
        nonlocal asked_times
        asked_times += 1
        assert answered_by(ask(client)) == 1
        return bool(client.get(shadow).json()["differed"])

    wait_for(asked)
    assert ask(client, path="/versions/2").status_code == 404
    requests = before[0].get("requests", 0) + asked_times
    wait_for(lambda: billed(client, 1).get("requests", 0) == requests)
    assert billed(client, 2) == before[1]
    change(client, shadow={"version": 1})

    def agrees() -> bool:
        assert answered_by(ask(client)) == 1
        return bool(client.get(shadow).json()["agreed"])

    wait_for(agrees)
    change(client, shadow=None)
    assert client.get(shadow).status_code == 404


def test_a_kept_answer_is_billed_and_is_its_version_s_own(client: httpx.Client) -> None:
    before = billed_at_last(client, 1).get("requests", 0)
    change(client, cache_seconds=60)
    answers = [ask(client) for _ in range(5)]
    assert {answered_by(answer) for answer in answers} == {1}
    assert len({answer.content for answer in answers}) == 1
    statistics = client.get("/v2/models/front/versions/1/stats").json()["model_stats"][0]["inference_stats"]
    assert int(statistics["cache_hit"]["count"]) == 4
    wait_for(lambda: billed(client, 1).get("requests", 0) == before + 5)
    change(client, version=2)
    wait_for(lambda: answered_by(ask(client)) == 2)
    assert {answered_by(ask(client)) for _ in range(5)} == {2}


def test_the_cache_is_fair_and_bounded() -> None:
    kept = Cache(64_000)
    small = {"y": np.zeros(100, np.float32)}
    mine = key_of("small", "v", reader="", headers={}, body=b"")
    kept.put(mine, small, now=0)
    for i in range(500):
        kept.put(key_of("large", "v", reader="", headers={}, body=bytes([i % 256, i // 256])), small, now=0)
    assert kept.held_bytes <= 64_000
    assert kept.get(mine, seconds=1, now=0.5) is not None
    assert kept.get(mine._replace(tenant_id="large"), seconds=1, now=0.5) is None
    assert kept.get(mine._replace(version_id="w"), seconds=1, now=0.5) is None
    assert kept.get(mine, seconds=1, now=1.0) is None
