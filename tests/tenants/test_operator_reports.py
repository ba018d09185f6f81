"""Reports over all tenants: pages, files and commands; their figures are those of the tenants' own drafts."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants import scoping
from tenants.invoicing import billing
from tenants.ledger import usage
from tenants.ledger.usage import UsageEvent
from tenants.models import ApiKey, Plan, Price, Tenant
from tenants.reports import operator_reports
from tenants.reports.operator_reports import IssuedTotal
from tests.conftest import Account

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
NOVEMBER = date(2026, 11, 1)
OCTOBER = date(2026, 10, 1)


@pytest.fixture(autouse=True)
def _november() -> Iterator[None]:
    with mock.patch.object(timezone, "now", return_value=NOW):
        yield


def used(account: Account, at: str, **meters: int | Decimal) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    event = UsageEvent(
        id="req_1", at_ms=int(moment.timestamp() * 1000), tenant=account.tenant.pk, key="key_1", deployment="cats",
        version="cats@1", meters=meters,
    )  # fmt: skip
    usage.record(events=[event], producer="test", segment_id=f"{account.tenant.pk}/{at}")


@pytest.fixture
def busy(acme: Account, globex: Account) -> None:
    """Globex has a plan in dollars."""
    plan = Plan.objects.create(code="dollars", name="Dollars", currency="USD")
    Price.objects.create(
        plan=plan, meter="predictions", valid_from=date(2026, 1, 1), amount=1, per=1000, unit="1,000 predictions"
    )
    with scoping.operator():
        Tenant.objects.update(created_at=datetime(2026, 9, 15, tzinfo=UTC))
        Tenant.objects.filter(pk=globex.tenant.pk).update(plan=plan)
    used(acme, "2026-10-31T23:59:59", predictions=4000, compute_us=7_000_000)
    used(acme, "2026-11-01T00:00:00", predictions=10_000, compute_us=1_500_000)
    used(acme, "2026-11-19T10:00:00", training_seconds=Decimal(3600))
    used(globex, "2026-11-02T10:00:00", predictions=7000)


def issued(account: Account, month: date, amount: str, due: str = "0", number: str = "INV-1") -> IssuedTotal:
    return IssuedTotal(
        tenant_id=account.tenant.pk, month=month, plan="standard", currency="EUR", amount=Decimal(amount),
        number=number, issued_on=date(2026, 11, 3), due=Decimal(due),
    )  # fmt: skip


def rows(kind: str, *months: date) -> list[tuple[Any, ...]]:
    with scoping.operator():
        return list(operator_reports.report(kind=kind, months=months or [NOVEMBER], today=NOW.date()).rows)


def test_revenue_is_the_drafts_by_month_plan_and_currency(busy: None) -> None:
    with scoping.operator():
        table = operator_reports.report(kind="revenue", months=[OCTOBER, NOVEMBER], today=NOW.date())
    zero = Decimal(0)
    assert table.columns == ("month", "plan", "currency", "tenants", "issued", "draft", "total")
    assert table.rows == [
        ("2026-10", "standard", "EUR", 1, zero, Decimal("2.00"), Decimal("2.00")),
        ("2026-11", "dollars", "USD", 1, zero, Decimal("7.00"), Decimal("7.00")),
        ("2026-11", "standard", "EUR", 1, zero, Decimal("5.90"), Decimal("5.90")),
    ]
    assert table.totals == [
        ("total", "", "EUR", None, zero, Decimal("7.90"), Decimal("7.90")),
        ("total", "", "USD", None, zero, Decimal("7.00"), Decimal("7.00")),
    ]


def test_a_month_that_is_issued_is_what_its_invoice_says(busy: None, acme: Account) -> None:
    with scoping.operator():
        table = operator_reports.revenue(months=[OCTOBER, NOVEMBER], issued=[issued(acme, OCTOBER, "1.23")])
    october, _, november = table.rows
    assert october == ("2026-10", "standard", "EUR", 1, Decimal("1.23"), Decimal(0), Decimal("1.23"))
    assert november[4:6] == (Decimal(0), Decimal("5.90"))


def test_the_top_tenants_are_ranked_within_their_currency(busy: None, acme: Account, globex: Account) -> None:
    assert rows("tenants", OCTOBER, NOVEMBER) == [
        (1, "acme", acme.tenant.pk, "standard", "EUR", Decimal("7.90"), 14_000, Decimal("3608.500")),
        (2, "globex", globex.tenant.pk, "dollars", "USD", Decimal("7.00"), 7000, Decimal("0.000")),
    ]
    with scoping.operator():
        table = operator_reports.top_tenants(months=[NOVEMBER], issued=[issued(globex, OCTOBER, "9")], count=1)
    assert [row[1] for row in table.rows] == ["globex", "globex"]


def test_what_is_billed_stands_against_what_was_computed(busy: None) -> None:
    assert rows("compute") == [
        ("2026-11", "dollars", "USD", Decimal("7.00"), Decimal(0), Decimal(0), None),
        ("2026-11", "standard", "EUR", Decimal("5.90"), Decimal("1.500"), Decimal(3600), Decimal("5.8975")),
    ]


def test_unpaid_invoices_are_listed_the_oldest_first(acme: Account, globex: Account) -> None:
    with scoping.operator():
        table = operator_reports.unpaid(
            issued=[
                issued(globex, OCTOBER, "9", due="9", number="INV-3"),
                issued(acme, OCTOBER, "5", due="1.50", number="INV-2"),
                issued(acme, NOVEMBER, "7", number="INV-4"),
            ],
            today=NOW.date(),
        )
    assert [(row[0], row[1], row[5], row[7]) for row in table.rows] == [
        ("INV-2", "acme", Decimal("1.50"), 17), ("INV-3", "globex", Decimal(9), 17)
    ]  # fmt: skip
    assert table.totals == [("total", "", "", "EUR", None, Decimal("10.50"), None, None)]


DAYS = st.integers(1, 30)
QUANTITIES = st.decimals(0, 10**6, places=6)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.tuples(st.booleans(), DAYS, st.sampled_from(["training_seconds", "stored_byte_hours"]), QUANTITIES),
        max_size=8,
    ),
    prices=st.lists(st.tuples(st.sampled_from(["training_seconds", "predictions"]), DAYS, QUANTITIES), max_size=3,
                    unique_by=lambda one: one[:2]),
)  # fmt: skip
def test_revenue_is_the_sum_of_all_drafts(events: list[Any], prices: list[Any], acme: Account, globex: Account) -> None:
    """Also where prices begin amid the month; each draft is worked out by itself, from the hours."""
    with transaction.atomic(), scoping.operator():
        Tenant.objects.update(created_at=datetime(2026, 9, 15, tzinfo=UTC))
        for meter, day, amount in prices:
            Price.objects.create(
                plan_id="standard", meter=meter, valid_from=date(2026, 11, day), amount=amount, per=777, unit="units"
            )
        for number, (first, day, meter, quantity) in enumerate(events):
            used(acme if first else globex, f"2026-11-{day:02}T{number:02}:00:00", **{meter: quantity})
        drafts = [
            billing.draft_invoice(tenant=tenant, month=NOVEMBER, now=NOW)
            for tenant in Tenant.objects.select_related("plan")
        ]
        table = operator_reports.revenue(months=[NOVEMBER], issued=[])
        transaction.set_rollback(True)
    billed = [draft.total for draft in drafts if draft.lines]
    assert [(row[3], row[6]) for row in table.rows] == ([(len(billed), sum(billed))] if billed else [])


# Pages, files and commands


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@site.example", password="correct-horse-battery"))
    return client


def page(kind: str) -> str:
    return reverse("admin:tenants_report", args=[kind])


@pytest.mark.parametrize("kind", operator_reports.KINDS)
def test_each_report_has_a_page_and_a_file(kind: str, busy: None, operator: Client) -> None:
    shown = operator.get(page(kind), {"from": "2026-10", "to": "2026-11"})
    assert shown.status_code == 200
    assert operator_reports.KINDS[kind] in shown.content.decode()
    file = operator.get(page(kind), {"from": "2026-10", "to": "2026-11", "format": "csv"})
    assert file.headers["Content-Disposition"] == f'attachment; filename="{kind}-2026-10-2026-11.csv"'
    assert len(list(csv.reader(io.StringIO(file.content.decode())))) == 1 + len(rows(kind, OCTOBER, NOVEMBER))


def test_a_page_has_the_figures_and_their_totals(busy: None, operator: Client) -> None:
    shown = operator.get(page("revenue"), {"from": "2026-10", "to": "2026-11"}).content.decode()
    assert "<td>5.90</td>" in shown
    assert "<th>7.90</th>" in shown
    assert page("revenue") in operator.get(reverse("admin:tenants_usagemonth_changelist")).content.decode()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"from": "november"}, "Expected a month, as 2026-11"),
        ({"from": "2026-11", "to": "2026-10"}, "Expected a month from 2026-11 on; got 2026-10"),
        ({"from": "2020-01", "to": "2026-10"}, "spans 36 months at most"),
    ],
)
def test_months_that_are_none_are_refused_in_words(query: dict[str, str], words: str, operator: Client) -> None:
    assert words in operator.get(page("revenue"), query).content.decode()


def test_reports_are_for_operators(acme: Account, operator: Client) -> None:
    customer, clerk = Client(), Client()
    customer.force_login(acme.members["owner"])
    assert customer.get(page("revenue")).status_code == 302
    clerk.force_login(User.objects.create_user("clerk@site.example", password="correct-horse", is_staff=True))
    assert clerk.get(page("revenue")).status_code == 403
    assert operator.get(page("sorrow")).status_code == 404


def run(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_the_revenue_command_writes_a_table_a_file_or_json(busy: None) -> None:
    months = ("--from", "2026-10", "--to", "2026-11")
    assert run("revenue_report", *months).splitlines() == [
        "month    plan      currency  tenants  issued  draft  total",
        "-------  --------  --------  -------  ------  -----  -----",
        "2026-10  standard  EUR             1    0.00   2.00   2.00",
        "2026-11  dollars   USD             1    0.00   7.00   7.00",
        "2026-11  standard  EUR             1    0.00   5.90   5.90",
        "total              EUR                  0.00   7.90   7.90",
        "total              USD                  0.00   7.00   7.00",
    ]
    file = list(csv.DictReader(io.StringIO(run("revenue_report", *months, "--format", "csv"))))
    assert [row["draft"] for row in file] == ["2.00", "7.00", "5.90"]
    document = json.loads(run("revenue_report", "--kind", "tenants", "--format", "json"))
    assert [(row["tenant"], row["amount"]) for row in document["rows"]] == [("acme", "5.90"), ("globex", "7.00")]
    with pytest.raises(CommandError, match="Expected a month from 2026-11 on"):
        run("revenue_report", "--to", "2026-10")
    with pytest.raises(CommandError, match="is no month"):
        run("revenue_report", "--from", "soon")


def test_the_usage_command_writes_what_a_tenant_used(busy: None, acme: Account) -> None:
    assert run("usage_report", "acme", "--group-by", "model").splitlines() == [
        "start              model  meter             quantity",
        "-----------------  -----  ----------------  --------",
        "2026-11-01T00:00Z  cats   compute_ms        1500",
        "2026-11-01T00:00Z  cats   predictions       10000",
        "2026-11-01T00:00Z  cats   training_seconds  3600",
    ]
    with scoping.operator():
        (key,) = ApiKey.objects.for_tenant(acme.tenant)
        ApiKey.objects.for_tenant(acme.tenant).update(name="@evil")
    event = UsageEvent("r", int(NOW.timestamp() * 1000), acme.tenant.pk, key.pk, "", "", {"requests": 3})
    usage.record(events=[event], producer="test", segment_id="keyed")
    command = ("usage_report", "acme", "--group-by", "key", "--bucket-width", "day", "--format")
    file = list(csv.DictReader(io.StringIO(run(*command, "csv"))))
    assert ("'@evil", "3") in [(row["key_name"], row["quantity"]) for row in file]
    named = {(row["key_name"], row["meter"]) for row in json.loads(run(*command, "json"))["rows"]}
    assert {("@evil", "requests"), ("key_1", "predictions")} <= named
    for wrong, words in (
        (("nobody",), "no tenant 'nobody'"),
        (("acme", "--to", "2026-10"), "not before the first"),
        (("acme", "--from", "2026-09", "--to", "2026-11", "--bucket-width", "hour"), "31 days at most by hour"),
        (("acme", "--group-by", "colour"), "expected some of key, deployment"),
    ):
        with pytest.raises(CommandError, match=words):
            run("usage_report", *wrong)
