"""Usage reports and invoices, over HTTP."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from tenants import scoping
from tenants.ledger import usage
from tenants.ledger.usage import UsageEvent
from tenants.models import ApiKey, Price, Tenant, UsageDay, UsageHour, UsageMonth
from tenants.reports.usage_reports import WIDTHS
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
        ("&key=key_1,key_2&model=dogs", {"2026-11-02T00:00:00Z": "8"}),
        ("&deployment=dogs,cats&bucket_width=month", {"2026-11-01T00:00:00Z": "15"}),
        ("&model=dog", {}),
        ("&from=2026-10-31T23:00:00Z&to=2026-11-02T12:00:00Z",
         {"2026-10-31T23:00:00Z": "16", "2026-11-01T00:00:00Z": "7"}),
        ("&from=2026-11-01T01:00:00Z&to=2026-11-02T13:00:00Z&bucket_width=month", {"2026-11-01T01:00:00Z": "12"}),
        ("&from=2030-01-01&to=2030-02-01", {}),
    ],
)  # fmt: skip
def test_a_report_sums_what_was_asked_for(
    query: str, sums: dict[str, str], busy: Account, acme_client: APIClient
) -> None:
    assert {row["start"]: row["quantity"] for row in report(acme_client, query)} == sums


def test_groups_that_were_not_asked_for_are_null(busy: Account, acme_client: APIClient) -> None:
    assert report(acme_client, "&bucket_width=month&group_by=deployment") == [
        {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "key": None, "key_name": None,
         "deployment": name, "model": None, "version": None, "meter": "predictions", "quantity": quantity}
        for name, quantity in [("cats", "7"), ("dogs", "8")]
    ]  # fmt: skip


def test_different_meters_are_never_added_up(busy: Account, acme_client: APIClient) -> None:
    rows = acme_client.get("/api/v1/usage?bucket_width=month&group_by=key").json()["results"]
    assert {(row["key"], row["meter"], row["quantity"]) for row in rows} == {
        ("key_1", "predictions", "7"), ("key_1", "requests", "3"),
        ("key_2", "predictions", "8"), ("key_2", "requests", "1"),
    }  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_pages_of_a_report_hold_every_sum_once_both_ways(
    limit: int, width: str, busy: Account, acme_client: APIClient
) -> None:
    url = f"/api/v1/usage?bucket_width={width}&group_by=key,deployment,model,version&from=2026-10-15&to=2026-11-15"
    everything = acme_client.get(url).json()["results"]
    assert len(everything) == {"hour": 8, "day": 6, "month": 6}[width]
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
        ("meter=predictions,smiles", "meter"),
        ("key=key_1,", "key"),
        ("key=key_1,key_1", "key"),
        ("version=" + ",".join(map(str, range(101))), "version"),
        ("format=xml", "format"),
        ("from=2026-11-02&to=2026-11-01", "to"),
        ("bucket_width=hour&from=2026-10-01&to=2026-11-02", "to"),
        ("from=2025-01-01&to=2027-01-01", "to"),
        ("bucket_width=month&from=2000-01-01&to=2027-01-01", "to"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
        ("cursor=W10=", "cursor"),
        ("cursor=WzAsWyJ4Il1d", "cursor"),
        ("cursor=WzAsWyIyMDI2LTExLTAxIl1d", "cursor"),
        ("cursor=WzAsWyIwMDAxLTAxLTAxIiwiYSJdXQ==", "cursor"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_expected(query: str, field: str, acme_client: APIClient) -> None:
    refused = acme_client.get(f"/api/v1/usage?{query}")
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert "xpected" in refused.json()["errors"][0]["message"]


def test_a_range_that_is_too_wide_is_refused_with_what_may_be(acme_client: APIClient) -> None:
    refused = acme_client.get("/api/v1/usage?bucket_width=hour&from=2026-10-01&to=2026-12-01")
    assert refused.json()["detail"] == (
        "to: A report by hour spans 31 days at most. Expected a time until 2026-11-01T00:00:00Z, "
        "or a greater bucket_width."
    )


def test_keys_are_named_beside_their_ids(acme: Account, globex: Account, acme_client: APIClient) -> None:
    with scoping.operator():
        (mine,), (theirs,) = (ApiKey.objects.for_tenant(one.tenant) for one in (acme, globex))
    for key in (mine.pk, theirs.pk, ""):
        used(acme, "2026-11-03T10:00:00", key=key, predictions=1)
    rows = report(acme_client, "&group_by=key")
    assert {row["key"]: row["key_name"] for row in rows} == {mine.pk: "all", theirs.pk: None, "": None}


def csv_of(client: APIClient, query: str, **headers: str) -> list[dict[str, str]]:
    answer: Any = client.get(f"/api/v1/usage?{query}", headers=headers)
    assert answer.status_code == 200, answer.content
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.getvalue().decode())))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_csv_file_has_the_sums_of_all_pages(width: str, busy: Account, acme_client: APIClient) -> None:
    query = f"bucket_width={width}&group_by=key,model"
    rows = acme_client.get(f"/api/v1/usage?{query}&limit=200").json()["results"]
    blank = [{name: value or "" for name, value in row.items()} for row in rows]
    assert csv_of(acme_client, f"{query}&format=csv&limit=1") == blank
    assert csv_of(acme_client, query, Accept="text/csv") == blank
    assert csv_of(acme_client, f"{query}&format=csv", Accept="application/json") == blank
    assert acme_client.get(f"/api/v1/usage?{query}&format=json", headers={"Accept": "text/csv"}).json()["results"]


def test_a_csv_file_of_nothing_is_its_header(acme_client: APIClient) -> None:
    answer: Any = acme_client.get("/api/v1/usage?format=csv")
    assert answer.getvalue() == b"start,end,key,key_name,deployment,model,version,meter,quantity\r\n"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="usage-acme-2026-11-01-day.csv"'


def test_a_cell_is_no_formula(acme: Account, acme_client: APIClient) -> None:
    with scoping.operator():
        ApiKey.objects.for_tenant(acme.tenant).update(name="=cmd|' /C calc'!A1")
        (key,) = ApiKey.objects.for_tenant(acme.tenant)
    used(acme, "2026-11-03T10:00:00", key=key.pk, predictions=1)
    (row,) = csv_of(acme_client, "group_by=key&format=csv")
    assert row["key_name"] == "'=cmd|' /C calc'!A1"


def test_a_refused_csv_file_is_a_problem_in_words(acme_client: APIClient) -> None:
    refused = acme_client.get("/api/v1/usage?format=csv&bucket_width=week")
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, "application/problem+json")


HOURS = st.integers(0, 24 * 70)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.tuples(HOURS, st.sampled_from("ab"), st.decimals(0, 10**9, places=12)), max_size=12),
    segments=st.integers(1, 4),
)
def test_days_and_months_are_their_hours_added_up(
    events: list[tuple[int, str, Decimal]], segments: int, acme: Account
) -> None:
    with transaction.atomic():
        for number in range(segments):
            usage.record(
                events=[
                    UsageEvent(
                        id="req_1", at_ms=1_790_000_000_000 + hour * 3_600_000, tenant=acme.tenant.pk, key=key,
                        deployment="", version="", meters={"training_seconds": quantity},
                    )
                    for hour, key, quantity in events[number::segments]
                ],
                producer="test",
                segment_id=f"seg_{number}",
            )  # fmt: skip
        with scoping.operator():
            hours = UsageHour.objects.for_tenant(acme.tenant)
            days = {(row.day, row.key): row.quantity for row in UsageDay.objects.for_tenant(acme.tenant)}
            months = {row.month: row.quantity for row in UsageMonth.objects.for_tenant(acme.tenant)}
            by_day: dict[Any, Decimal] = defaultdict(Decimal)
            by_month: dict[Any, Decimal] = defaultdict(Decimal)
            for row in hours:
                day = row.hour.astimezone(UTC).date()
                by_day[day, row.key] += row.quantity
                by_month[day.replace(day=1)] += row.quantity
        transaction.set_rollback(True)
    assert (days, months) == (by_day, by_month)
    assert sum(months.values()) == sum(quantity for _, _, quantity in events)


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
