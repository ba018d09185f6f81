"""Statistics of deployments: brought by every process, once each, kept as minutes and hours, read by their tenant."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from django.db import OperationalError
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from inference import deployment_statistics
from inference.deployment_statistics import Counts, Parcel
from inference.models import Deployment, DeploymentStatistics, StatisticsSource, Width
from inference.plane.history import PARCEL_SECONDS, History, difference
from inference.plane.statistics import Statistics, Tally, bucket
from modelhub.models import Model, ModelVersion
from tenants import scoping
from tests.conftest import Account
from tests.inference.conftest import PlaneSite
from tests.live import free_port

NOW = datetime(2026, 11, 24, 13, 59, 30, tzinfo=UTC)
PATH = "/api/v1/deployments/front/statistics"


def deploy(account: Account, *, at: datetime = NOW - timedelta(days=100)) -> Deployment:
    with scoping.operator():
        model, _ = Model.across_tenants.get_or_create(tenant=account.tenant, name="cats", defaults={"latest": 1})
        version, _ = ModelVersion.across_tenants.get_or_create(
            tenant=account.tenant, model=model, number=1, defaults={"manifest": {}}
        )
        return Deployment.objects.create(tenant=account.tenant, name="front", version=version, created_at=at)


def counts(answered: int, us: int, **more: int) -> Counts:
    return Counts(answered=answered, total_us=answered * us, histogram={bucket(us): answered}, **more)


def parcel(account: Account, number: int, what: Counts, *, at: datetime = NOW, source: str = "one") -> Parcel:
    return Parcel(source=source, number=number, at=at, counts={(account.tenant.pk, "front", "cats@1"): what})


def read(row: Deployment, width: Width = Width.MINUTE, *, count: int = 60) -> deployment_statistics.Window:
    with scoping.tenant(row.tenant_id):
        return deployment_statistics.last(deployment=row, width=width, count=count, now=NOW)


def test_parcels_of_all_processes_add_up_and_one_brought_twice_counts_once(acme: Account) -> None:
    row = deploy(acme)
    first = parcel(acme, 1, counts(3, 1000, rows=6, batches=2, batch_rows=6))
    assert deployment_statistics.take(parcel=first)
    assert not deployment_statistics.take(parcel=first)
    assert deployment_statistics.take(parcel=parcel(acme, 2, counts(1, 1000, client_errors=2)))
    assert deployment_statistics.take(parcel=parcel(acme, 1, counts(96, 50_000, server_errors=1), source="two"))
    total = read(row).total
    assert (total.requests, total.answered, total.client_errors, total.server_errors) == (103, 100, 2, 1)
    assert (total.rows, total.mean_batch) == (6, 3.0)
    assert total.histogram == {bucket(1000): 4, bucket(50_000): 96}
    assert total.p50_ms is not None
    assert 50 < total.p50_ms <= 50 * 1.125
    assert read(row, Width.HOUR, count=1).total == total


def test_a_window_has_its_minutes_and_hours_and_nothing_older(acme: Account) -> None:
    row = deploy(acme)
    for number, before in enumerate((0, 0, 1, 59, 60, 61, 2880), 1):
        deployment_statistics.take(parcel=parcel(acme, number, counts(1, 1000), at=NOW - timedelta(minutes=before)))
    minutes = read(row, count=60)
    assert {at: one.answered for at, one in minutes.times.items()} == {
        NOW.replace(second=0): 2,
        NOW.replace(minute=58, second=0): 1,
        NOW.replace(minute=0, second=0): 1,
    }
    hours = read(row, Width.HOUR, count=48)
    assert [one.answered for one in hours.times.values()] == [2, 4]
    assert hours.total.histogram == {bucket(1000): 6}
    assert (hours.start, hours.end) == (datetime(2026, 11, 22, 14, tzinfo=UTC), datetime(2026, 11, 24, 14, tzinfo=UTC))


def test_what_an_earlier_deployment_of_the_name_answered_is_not_shown(acme: Account) -> None:
    deployment_statistics.take(parcel=parcel(acme, 1, counts(5, 1000), at=NOW - timedelta(minutes=10)))
    row = deploy(acme, at=NOW - timedelta(minutes=3))
    deployment_statistics.take(parcel=parcel(acme, 2, counts(2, 1000), at=NOW - timedelta(minutes=1)))
    assert read(row).total.answered == 2


def test_another_tenants_deployment_of_the_same_name_is_another(acme: Account, globex: Account) -> None:
    deployment_statistics.take(parcel=parcel(acme, 1, counts(5, 1000)))
    foreign = deploy(globex)
    assert read(foreign).total.requests == 0


def test_old_minutes_and_hours_are_forgotten(acme: Account) -> None:
    for number, days in enumerate((0, 3, 91), 1):
        deployment_statistics.take(
            parcel=parcel(acme, number, counts(1, 1000), at=NOW - timedelta(days=days), source=f"{days}")
        )
    assert deployment_statistics.forget_old(now=NOW) == 3  # the minutes of two, the hour of one
    with scoping.operator():
        left = DeploymentStatistics.across_tenants.order_by("start", "width").values_list("width", flat=True)
        assert list(left) == ["hour", "hour", "minute"]
        assert list(StatisticsSource.objects.values_list("pk", flat=True)) == ["0"]
    assert deployment_statistics.forget_old(now=NOW) == 0


@given(st.lists(st.tuples(st.sampled_from(["answer", "400", "503", "look"]), st.integers(0, 10**8)), max_size=60))
def test_differences_add_up_to_the_tally(events: list[tuple[str, int]]) -> None:
    tally, seen, total = Tally(), Tally(), Counts()
    for what, us in [*events, ("look", 0)]:
        if what == "answer":
            tally.answered(rows=2, queue_us=us // 3, compute_us=us // 2, total_us=us, at_ms=1)
        elif what == "look":
            total.add(difference(seen, tally))
            seen = tally.copy()
        else:
            tally.refused(status=int(what), total_us=us)
    assert (total.answered, total.client_errors + total.server_errors) == (tally.requests, tally.failed)
    assert (total.server_errors, total.rows, total.queue_us) == (tally.faults, tally.rows, tally.queue_us)
    assert total.histogram == {index: count for index, count in enumerate(tally.histogram) if count}


def answer(tally: Tally, times: int = 1) -> None:
    for _ in range(times):
        tally.answered(rows=1, queue_us=0, compute_us=10, total_us=1000, at_ms=1)


def test_a_tally_counts_in_the_piece_of_a_minute_in_which_it_grew(acme: Account) -> None:
    row, statistics = deploy(acme), Statistics()
    key = (acme.tenant.pk, "front", "cats@1")
    start = NOW.replace(second=0).timestamp()
    history = History(statistics, source="p", now=start - 5)
    answer(statistics.of(key), 2)
    history.look(start - 1)  # not yet: the piece is not over
    answer(statistics.of(key))
    history.look(start + 1)
    answer(statistics.of(key), 4)
    statistics.keep_only(set())
    answer(statistics.of(key), 8)  # deployed again: a tally of its own
    history.look(start + PARCEL_SECONDS)
    history.look(start + 2 * PARCEL_SECONDS)
    history.bring()
    assert [one.answered for one in read(row).times.values()] == [3, 12]


def test_what_was_under_way_when_a_version_left_is_counted(acme: Account) -> None:
    row, statistics = deploy(acme), Statistics()
    start = NOW.timestamp()
    history = History(statistics, source="p", now=start)
    tally = statistics.of((acme.tenant.pk, "front", "cats@1"))
    statistics.keep_only(set())
    history.look(start + PARCEL_SECONDS)
    answer(tally)
    history.look(start + 2 * PARCEL_SECONDS)
    history.bring()
    assert read(row, count=2).total.answered == 1


@pytest.mark.parametrize("before_it_counts", [True, False])
def test_a_parcel_that_fails_is_tried_again_and_counts_once(
    acme: Account, monkeypatch: pytest.MonkeyPatch, before_it_counts: bool
) -> None:
    """Where the commit's answer is lost, nobody knows whether it counted."""
    row, statistics = deploy(acme), Statistics()
    take = deployment_statistics.take
    failures = 2

    def flaky(*, parcel: Parcel) -> bool:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            if not before_it_counts:
                take(parcel=parcel)
            raise OperationalError("the connection was lost")
        return take(parcel=parcel)

    monkeypatch.setattr("inference.plane.history.deployment_statistics.take", flaky)
    monkeypatch.setattr("inference.plane.history.connection.close", lambda: None)
    start = NOW.timestamp()
    history = History(statistics, source="p", now=start)
    for number in range(1, 4):
        answer(statistics.of((acme.tenant.pk, "front", "cats@1")), number)
        history.look(start + number * PARCEL_SECONDS)
        history.bring()
    assert read(row, count=2).total.answered == 6


def test_the_api_says_what_was_answered_by_version_and_time(acme: Account, acme_client: APIClient) -> None:
    deploy(acme)
    at = datetime.now(UTC)
    work: dict[str, int] = {"rows": 8, "batches": 2, "batch_rows": 8, "queue_us": 4000, "compute_us": 8000}
    key = (acme.tenant.pk, "front")
    found = {(*key, "cats@1"): counts(4, 2000, **work), (*key, ""): Counts(server_errors=3)}
    deployment_statistics.take(parcel=Parcel(source="one", number=1, at=at, counts=found))
    body = acme_client.get(PATH).json()
    expected = {
        "requests": 7, "client_errors": 0, "server_errors": 3, "rows": 8, "batches": 2, "cache_hits": 0,
        "mean_batch": 4.0, "mean_queue_ms": 1.0, "mean_compute_ms": 2.0,
    }  # fmt: skip
    assert expected.items() <= body["total"].items()
    assert 2 < body["total"]["p50_ms"] == body["total"]["p99_ms"] <= 2.25
    assert [(one["version"], one["requests"]) for one in body["versions"]] == [(None, 3), ("cats@1", 4)]
    assert [one["requests"] for one in body["buckets"]] == [7]
    assert body["versions"][0]["p95_ms"] is None
    one = acme_client.get(PATH, {"version": "cats@1", "bucket_width": "hour", "window": "3"}).json()
    assert (one["bucket_width"], one["total"]["requests"]) == ("hour", 4)
    assert datetime.fromisoformat(one["end"]) - datetime.fromisoformat(one["start"]) == timedelta(hours=3)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"bucket_width": "day"}, "bucket_width"),
        ({"window": 1441}, "window"),
        ({"window": 0}, "window"),
        ({"window": "x"}, "window"),
        ({"bucket_width": "hour", "window": 2161}, "window"),
        ({"since": 1}, "since"),
    ],
)
def test_a_query_that_cannot_be_is_refused(
    acme: Account, acme_client: APIClient, query: dict[str, Any], field: str
) -> None:
    deploy(acme)
    refused = acme_client.get(PATH, query)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, field)


def wait_until(found: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + 20
    while found() != expected:
        assert time.monotonic() < deadline, found()
        time.sleep(0.5)


def test_statistics_cover_all_processes_and_outlive_them(plane: PlaneSite) -> None:
    """Two processes beside another server; then they end, and what they counted last is there, too."""
    port = free_port()
    server = plane.site.start_server(port=port, processes=2)
    with plane.client() as client:
        version = client.get("/api/v1/deployments/tiny").json()
        client.post("/api/v1/deployments", json={"name": "seen", "model": version["model"], "version": 1})

        def total() -> dict[str, Any]:
            answer = client.get("/api/v1/deployments/seen/statistics", params={"bucket_width": "hour", "window": 2})
            return {name: answer.json()["total"][name] for name in ("requests", "client_errors", "server_errors")}

        def ask(count: int, url: str, body: dict[str, Any] | None = None) -> None:
            for _ in range(count):  # each on a connection of its own, so that both processes have some
                httpx.post(
                    f"{url}/v1/models/seen:predict",
                    json=body or {"instances": [[1, 2, 3, 4]]},
                    headers={"X-API-Key": plane.acme_key},
                )

        there = f"http://127.0.0.1:{port}"
        ask(20, there)
        ask(7, plane.site.url)
        ask(3, there, {"instances": "none"})
        wait_until(total, {"requests": 30, "client_errors": 3, "server_errors": 0})
        client.post("/api/v1/deployments/seen/pause")
        time.sleep(1.0)
        ask(5, there)
        server.terminate()
        server.wait(30)
        wait_until(total, {"requests": 35, "client_errors": 3, "server_errors": 5})
