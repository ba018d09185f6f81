"""Usage reports and invoices, over HTTP."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import scoping, usage
from tenants.models import Price, Tenant
from tenants.usage import UsageEvent
from tests.conftest import Account

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _november() -> Iterator[None]:
    with mock.patch.object(timezone, "now", return_value=NOW):
        yield


def used(account: Account, at: str, *, key: str = "key_1", deployment: str = "cats", **meters: int | Decimal) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    event = UsageEvent(
        id="req_1", at_ms=int(moment.timestamp() * 1000), tenant=account.tenant.pk, key=key, deployment=deployment,
        version=f"{deployment}@1", meters=meters,
    )  # fmt: skip
    usage.record(events=[event], producer="test", segment_id=f"{account.tenant.pk}/{at}/{key}/{deployment}")


@pytest.fixture
def busy(acme: Account, globex: Account) -> Account:
    used(acme, "2026-11-01T00:00:00", predictions=1, requests=1)
    used(acme, "2026-11-01T00:59:59", predictions=2, requests=1)
    used(acme, "2026-11-01T01:00:00", predictions=4, requests=1)
    used(acme, "2026-11-02T12:00:00", predictions=8, requests=1, key="key_2", deployment="dogs")
    used(acme, "2026-10-31T23:59:59", predictions=16, requests=1)
    used(globex, "2026-11-01T00:00:00", predictions=1000, requests=1)
    return acme


def report(client: APIClient, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/usage?meter=predictions{query}")
    assert answer.status_code == 200, answer.content
    rows: list[dict[str, Any]] = answer.json()["results"]
    return rows


@pytest.mark.parametrize(
    ("query", "sums"),
    [
        ("", {"2026-11-01T00:00:00Z": "7", "2026-11-02T00:00:00Z": "8"}),
        ("&bucket_width=month", {"2026-11-01T00:00:00Z": "15"}),
        (
            "&bucket_width=hour&to=2026-11-02",
            {"2026-11-01T00:00:00Z": "3", "2026-11-01T01:00:00Z": "4"},
        ),
        ("&from=2026-11-01T01:00:00Z&to=2026-11-02", {"2026-11-01T01:00:00Z": "4"}),
        ("&from=2026-11-01T02:00:00%2B01:00&to=2026-11-02", {"2026-11-01T01:00:00Z": "4"}),
        ("&from=2026-10-01&to=2026-12-01&bucket_width=month",
         {"2026-10-01T00:00:00Z": "16", "2026-11-01T00:00:00Z": "15"}),
        ("&key=key_2", {"2026-11-02T00:00:00Z": "8"}),
        ("&deployment=dogs&version=dogs@1", {"2026-11-02T00:00:00Z": "8"}),
        ("&key=key_9", {}),
        ("&from=2030-01-01&to=2030-02-01", {}),
    ],
)  # fmt: skip
def test_a_report_sums_what_was_asked_for(
    query: str, sums: dict[str, str], busy: Account, acme_client: APIClient
) -> None:
    assert {row["start"]: row["quantity"] for row in report(acme_client, query)} == sums


def test_groups_that_were_not_asked_for_are_null(busy: Account, acme_client: APIClient) -> None:
    assert report(acme_client, "&bucket_width=month&group_by=deployment") == [
        {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "key": None, "deployment": name,
         "version": None, "meter": "predictions", "quantity": quantity}
        for name, quantity in [("cats", "7"), ("dogs", "8")]
    ]  # fmt: skip


def test_different_meters_are_never_added_up(busy: Account, acme_client: APIClient) -> None:
    rows = acme_client.get("/api/v1/usage?bucket_width=month&group_by=key").json()["results"]
    assert {(row["key"], row["meter"], row["quantity"]) for row in rows} == {
        ("key_1", "predictions", "7"), ("key_1", "requests", "3"),
        ("key_2", "predictions", "8"), ("key_2", "requests", "1"),
    }  # fmt: skip


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_pages_of_a_report_hold_every_sum_once_both_ways(limit: int, busy: Account, acme_client: APIClient) -> None:
    url = "/api/v1/usage?bucket_width=hour&group_by=key,deployment,version"
    everything = acme_client.get(url).json()["results"]
    assert len(everything) == 6
    forward, page = [], acme_client.get(f"{url}&limit={limit}").json()
    assert page["previous"] is None
    while True:
        forward.append(page["results"])
        if page["next"] is None:
            break
        page = acme_client.get(page["next"]).json()
    assert [row for rows in forward for row in rows] == everything
    backward = [page["results"]]
    while page["previous"]:
        page = acme_client.get(page["previous"]).json()
        backward.insert(0, page["results"])
    assert backward == forward


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("from=2026-11-01T00:30:00Z", "from"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
        ("to=9999-12-31", "to"),
        ("from=2026-11-02&to=2026-11-02", "to"),
        ("bucket_width=week", "bucket_width"),
        ("group_by=tenant", "group_by"),
        ("group_by=key,key", "group_by"),
        ("meter=smiles", "meter"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
        ("cursor=W10=", "cursor"),
        ("cursor=WzAsWyJ4Il1d", "cursor"),
        ("cursor=WzAsWyIyMDI2LTExLTAxIl1d", "cursor"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_expected(query: str, field: str, acme_client: APIClient) -> None:
    refused = acme_client.get(f"/api/v1/usage?{query}")
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert "xpected" in refused.json()["errors"][0]["message"]


# Invoices


@pytest.fixture
def since_september(acme: Account) -> Tenant:
    with scoping.operator():
        Tenant.objects.filter(pk=acme.tenant.pk).update(created_at=datetime(2026, 9, 15, tzinfo=UTC))
        return Tenant.objects.get(pk=acme.tenant.pk)


def test_the_draft_is_quantities_times_prices(since_september: Tenant, acme: Account, acme_client: APIClient) -> None:
    used(acme, "2026-11-03T10:00:00", predictions=12_345, requests=12_000)
    used(acme, "2026-11-04T10:00:00", key="", training_seconds=Decimal("90.5"))
    used(acme, "2026-11-05T10:00:00", key="", stored_byte_hours=Decimal(250 * 10**9))
    used(acme, "2026-10-05T10:00:00", predictions=1_000_000)
    invoice = acme_client.get("/api/v1/invoices/2026-11").json()
    assert {key: value for key, value in invoice.items() if key != "lines"} == {
        "id": "2026-11", "number": "", "month": "2026-11", "state": "draft", "period_start": "2026-11-01T00:00:00Z",
        "period_end": "2026-12-01T00:00:00Z", "currency": "EUR", "total": "6.21", "credit_used": "0.00",
        "credited": "0.00", "paid": "0.00", "due": "6.21", "issued_at": None, "paid_at": None, "voided_at": None,
        "credit_notes": [],
    }  # fmt: skip
    assert [(line["meter"], line["quantity"], line["amount"]) for line in invoice["lines"]] == [
        ("predictions", "12345", "6.17"),  # 6.1725
        ("stored_byte_hours", "250000000000", "0.02"),  # 0.025, half to even
        ("training_seconds", "90.5", "0.02"),  # 0.022625
    ]
    assert invoice["lines"][0] == {
        "kind": "usage", "month": "2026-11", "plan": "standard", "meter": "predictions", "description": "Predictions",
        "model": "per_unit", "quantity": "12345", "unit": "1,000 predictions", "unit_price": "0.5", "per": "1000",
        "included": "0", "minimum": "0", "tiers": [], "hours": 720, "month_hours": 720, "amount": "6.17",
    }  # fmt: skip


def test_a_price_that_changes_in_mid_month_is_two_lines(
    since_september: Tenant, acme: Account, acme_client: APIClient
) -> None:
    Price.objects.create(
        plan=since_september.plan, meter="predictions", valid_from=date(2026, 11, 10), amount=Decimal(1),
        per=Decimal(1000), unit="1,000 predictions",
    )  # fmt: skip
    used(acme, "2026-11-09T23:59:59", predictions=1000)
    used(acme, "2026-11-10T00:00:00", predictions=1000)
    invoice = acme_client.get("/api/v1/invoices/2026-11").json()
    assert [(line["description"], line["amount"]) for line in invoice["lines"]] == [
        ("Predictions, 2026-11-01 to 2026-11-09", "0.50"),
        ("Predictions, 2026-11-10 to 2026-11-30", "1.00"),
    ]
    assert invoice["total"] == "1.50"


def test_there_is_an_invoice_for_each_month_since_the_account_was_opened(
    since_september: Tenant, acme_client: APIClient
) -> None:
    listed = acme_client.get("/api/v1/invoices?limit=2").json()
    assert [row["id"] for row in listed["results"]] == ["2026-11", "2026-10"]
    last = acme_client.get(listed["next"]).json()
    assert [row["id"] for row in last["results"]] == ["2026-09"]
    assert last["next"] is None
    assert [row["id"] for row in acme_client.get(last["previous"]).json()["results"]] == ["2026-11", "2026-10"]


@pytest.mark.parametrize("month", ["2026-12", "2026-08", "2026-13", "november", "2026-11-01", "9999-12", "0000-01"])
def test_there_is_no_invoice_for_another_month(month: str, since_september: Tenant, acme_client: APIClient) -> None:
    assert acme_client.get(f"/api/v1/invoices/{month}").status_code == 404
