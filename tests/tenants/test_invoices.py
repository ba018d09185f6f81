"""Invoices: a month is closed once, what it says is frozen, and what comes late is on the next one."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import accounts, notices, scoping
from tenants.errors import Conflict, Invalid, NotFound
from tenants.invoicing import billing, credit, invoice_pdf, invoices, numbering, quantities
from tenants.ledger import producers, usage
from tenants.models import (
    AuditEvent,
    ClosedMonth,
    CreditEntry,
    CreditNote,
    Invoice,
    InvoiceLine,
    Notice,
    NumberSeries,
    Plan,
    PlanChange,
    Price,
    Tenant,
    UsageHour,
)  # fmt: skip
from tests.conftest import Account
from tests.tenants.months import ACTOR, AUGUST, OCTOBER, SEPTEMBER, close, invoice, opened, used

DAY = timedelta(days=1)


@pytest.fixture
def acmes(acme: Account) -> Tenant:
    """Since October, with 10,000 predictions in it: 5.00."""
    tenant = opened(acme)
    used(tenant, AUGUST + 3 * DAY, predictions=10_000)
    return tenant


def lines_of(row: Invoice) -> list[InvoiceLine]:
    with scoping.operator():
        return list(InvoiceLine.across_tenants.filter(invoice=row).order_by("position"))


def amounts(row: Invoice) -> list[tuple[str, str, str]]:
    return [(line.kind, f"{line.month:%Y-%m}", f"{line.amount:.2f}") for line in lines_of(row)]


def left(tenant: Tenant, now: datetime = OCTOBER) -> Any:
    with scoping.operator():
        return credit.balance(tenant=tenant, now=now)


def grant(tenant: Tenant, amount: Any, expires_at: datetime | None = None, now: datetime = AUGUST) -> None:
    with scoping.operator():
        credit.grant(tenant=tenant, amount=amount, currency="EUR", expires_at=expires_at, reason="trial",
                     actor=ACTOR, now=now)  # fmt: skip


# Closing


def test_closing_issues_what_the_draft_said(acmes: Tenant) -> None:
    with scoping.operator():
        draft = billing.draft_invoice(tenant=acmes, month=AUGUST.date(), now=SEPTEMBER)
    done = close(AUGUST)
    row = invoice(acmes, AUGUST)
    assert (done.invoices, done.first, row.number) == (1, row.number, "INV-2026-000001")
    assert (row.state, row.total, row.due, row.issued_at) == ("issued", draft.invoice.total, 5, SEPTEMBER)
    assert [(line.description, line.amount) for line in lines_of(row)] == [
        (line.description, line.amount) for line in draft.lines
    ]


def test_closing_again_changes_nothing(acmes: Tenant) -> None:
    close(AUGUST)
    used(acmes, AUGUST + DAY, predictions=10_000)
    assert close(AUGUST).invoices == 0
    assert invoice(acmes, AUGUST).total == 5
    with scoping.operator():
        assert NumberSeries.objects.get(name="INV-2026").last == 1
        assert AuditEvent.objects.for_tenant(acmes).filter(verb="invoice.issue").count() == 1
        assert Notice.objects.for_tenant(acmes).get(kind="invoice.issued").data["total"] == "5.00"


def test_a_month_with_nothing_to_bill_is_closed_without_a_number(acme: Account, acmes: Tenant, globex: Account) -> None:
    other = opened(globex)
    done = close(AUGUST)
    assert (done.invoices, done.nothing_to_bill) == (1, 1)
    with scoping.operator():
        assert ClosedMonth.objects.for_tenant(other).filter(month=AUGUST.date()).exists()
        assert not Invoice.objects.for_tenant(other).exists()
        with pytest.raises(NotFound):
            invoices.get(tenant=other, name="2026-08", now=SEPTEMBER)


@pytest.mark.parametrize("now", [AUGUST, SEPTEMBER - timedelta(microseconds=1)])
def test_a_month_is_not_closed_before_its_end(now: datetime, acmes: Tenant) -> None:
    with pytest.raises(Conflict, match="2026-08 ends at 2026-09-01 00:00"):
        close(AUGUST, now=now)


def test_a_month_is_not_closed_while_usage_of_it_may_be_under_way(acmes: Tenant) -> None:
    usage.open_producer(producer="plane-1", now=AUGUST + DAY)
    usage.open_producer(producer="plane-2", now=SEPTEMBER)
    with pytest.raises(Conflict, match=r"under way from plane-1 \(complete until 2026-08-02 00:00:00\)"):
        close(AUGUST)
    usage.take_segment(segment_id="plane-1.1", producer="plane-1", data=b"", watermark=SEPTEMBER - timedelta(seconds=1))
    with pytest.raises(Conflict, match=r"plane-1 \(complete until 2026-08-31 23:59:59\)"):
        close(AUGUST)
    usage.take_segment(segment_id="plane-1.2", producer="plane-1", data=b"", watermark=SEPTEMBER)
    assert producers.blocking(SEPTEMBER) == []
    assert close(AUGUST).invoices == 1
    assert invoice(acmes, AUGUST).watermark == SEPTEMBER


def test_a_producer_that_is_drained_holds_up_nothing(acmes: Tenant) -> None:
    usage.open_producer(producer="plane-1", now=AUGUST + DAY)
    usage.close_producer(producer="plane-1", now=AUGUST + 2 * DAY)
    assert close(AUGUST).invoices == 1


def test_one_tenant_is_closed_alone(acmes: Tenant, globex: Account) -> None:
    other = opened(globex)
    used(other, AUGUST + DAY, predictions=10_000)
    assert close(AUGUST, tenant=other).first == "INV-2026-000001"
    assert close(AUGUST).first == "INV-2026-000002"
    with pytest.raises(Invalid, match="opened"):
        close(AUGUST, tenant=opened(globex, SEPTEMBER))


def test_numbers_have_no_gap_after_a_transaction_that_failed(acmes: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> bool:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as patched:
        patched.setattr(notices, "announce", fail)
        with pytest.raises(RuntimeError):
            close(AUGUST)
    with scoping.operator():
        assert not Invoice.across_tenants.exists()
        assert not ClosedMonth.across_tenants.exists()
    assert close(AUGUST).first == "INV-2026-000001"


def test_the_year_of_a_number_is_that_in_which_it_is_issued(db: None) -> None:
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    for number in ("000001", "000002"):
        assert numbering.take("INV", count=1, now=new_year - timedelta(seconds=1)) == [f"INV-2026-{number}"]
    assert numbering.take("INV", count=2, now=new_year) == ["INV-2027-000001", "INV-2027-000002"]
    assert numbering.take("INV", count=0, now=new_year) == []


# What is frozen


def test_an_invoice_keeps_what_it_was_worked_out_from(acmes: Tenant) -> None:
    used(acmes, AUGUST, key="kéy", predictions=7, training_seconds=Decimal("90.50"))
    close(AUGUST)
    row = invoice(acmes, AUGUST)
    with scoping.operator():
        rollup = list(
            UsageHour.objects.for_tenant(acmes).values_list("hour", "key", "deployment", "version", "meter", "quantity")
        )
    assert row.rollup_sha256 == quantities.rollup_sha256(rollup)
    assert row.rollup_sha256 != quantities.rollup_sha256(rollup[1:])
    used_by_hour: dict[Any, Decimal] = {}
    for hour, *_, meter, quantity in rollup:
        used_by_hour[meter, hour] = used_by_hour.get((meter, hour), Decimal(0)) + quantity
    derived = billing.derive(invoice=row, quantities=used_by_hour)
    assert [(line.description, line.quantity, line.amount) for line in derived] == [
        (line.description, line.quantity, line.amount) for line in lines_of(row)
    ]


def test_a_price_that_was_billed_by_is_never_changed(acmes: Tenant) -> None:
    close(AUGUST)
    price = Price.objects.get(plan="standard", meter="predictions")
    with pytest.raises(DatabaseError, match="has been billed by"), scoping.operator():
        Price.objects.filter(pk=price.pk).update(amount=9)
    with pytest.raises(IntegrityError), scoping.operator():
        Price.objects.filter(pk=price.pk).delete()


@pytest.mark.parametrize("change", [{"total": 1}, {"number": "INV-2026-000009"}, {"terms": {}}, {"credit_used": 1}])
def test_what_an_invoice_says_is_never_changed(change: dict[str, Any], acmes: Tenant) -> None:
    close(AUGUST)
    row = invoice(acmes, AUGUST)
    with pytest.raises(DatabaseError, match="never changed"), scoping.operator():
        Invoice.across_tenants.filter(pk=row.pk).update(**change)
    with pytest.raises(DatabaseError), scoping.operator():
        InvoiceLine.across_tenants.filter(invoice=row).update(amount=1)
    with pytest.raises(DatabaseError), scoping.operator():
        Invoice.across_tenants.filter(pk=row.pk).delete()


# Late events


def test_late_events_are_one_line_of_the_next_invoice_however_often_they_come(acmes: Tenant) -> None:
    close(AUGUST)
    used(acmes, AUGUST + DAY, predictions=2_000)
    used(acmes, SEPTEMBER + DAY, predictions=4_000)
    close(SEPTEMBER)
    assert amounts(invoice(acmes, SEPTEMBER)) == [("usage", "2026-09", "2.00"), ("adjustment", "2026-08", "1.00")]
    used(acmes, AUGUST + DAY, predictions=1_000)
    used(acmes, AUGUST + 2 * DAY, predictions=1_000)
    used(acmes, SEPTEMBER + DAY, predictions=1_000)
    close(OCTOBER)
    assert amounts(invoice(acmes, OCTOBER)) == [
        ("adjustment", "2026-08", "1.00"),
        ("adjustment", "2026-09", "0.50"),
    ]
    assert "7.00 by all usage that has arrived, 6.00 was billed" in lines_of(invoice(acmes, OCTOBER))[0].description


def test_late_events_of_a_month_with_nothing_to_bill_are_billed_too(acmes: Tenant, globex: Account) -> None:
    other = opened(globex)
    close(AUGUST)
    used(other, AUGUST + DAY, predictions=2_000)
    close(SEPTEMBER)
    assert amounts(invoice(other, SEPTEMBER)) == [("adjustment", "2026-08", "1.00")]


def test_the_draft_of_the_oldest_open_month_shows_what_comes_late(acmes: Tenant) -> None:
    close(AUGUST)
    used(acmes, AUGUST + DAY, predictions=2_000)
    with scoping.operator():
        september = billing.draft_invoice(tenant=acmes, month=SEPTEMBER.date(), now=OCTOBER)
        october = billing.draft_invoice(tenant=acmes, month=OCTOBER.date(), now=OCTOBER)
    assert (str(september.total), str(october.total)) == ("1.00", "0.00")


def test_a_minimum_that_was_billed_is_set_against_what_comes_late(acmes: Tenant) -> None:
    Price.objects.create(plan=acmes.plan, meter="requests", valid_from=date(2026, 2, 1), amount=Decimal("0.1"),
                         minimum=Decimal(3), unit="request")  # fmt: skip
    close(AUGUST)
    assert invoice(acmes, AUGUST).total == 8
    used(acmes, AUGUST + DAY, requests=40)
    close(SEPTEMBER)
    assert amounts(invoice(acmes, SEPTEMBER)) == [("usage", "2026-09", "3.00"), ("adjustment", "2026-08", "1.00")]


def test_late_events_that_make_a_month_cheaper_give_credit(acmes: Tenant) -> None:
    """By volume 1,001 cost less than 1,000."""
    Price.objects.create(
        plan=acmes.plan, meter="requests", valid_from=date(2026, 2, 1), amount=0, model="volume", unit="request",
        tiers=[{"up_to": "1000", "amount": "0.01"}, {"up_to": None, "amount": "0.001"}],
    )  # fmt: skip
    used(acmes, AUGUST, requests=1000)
    close(AUGUST)
    assert invoice(acmes, AUGUST).total == 15
    used(acmes, AUGUST + DAY, requests=1000)
    close(SEPTEMBER)
    row = invoice(acmes, SEPTEMBER)
    assert (row.total, row.credit_used, row.due, row.state, left(acmes)) == (-8, -8, 0, "paid", 8)
    used(acmes, OCTOBER + DAY, predictions=20_000)
    close(OCTOBER)
    assert (invoice(acmes, OCTOBER).due, left(acmes)) == (2, 0)
    with scoping.operator(), pytest.raises(Conflict, match="some of it is used"):
        invoices.void(invoice=row, reason="wrong", actor=ACTOR, now=OCTOBER)


# Paid, void, credited


def test_an_invoice_is_paid_once(acmes: Tenant) -> None:
    close(AUGUST)
    for _ in range(2):
        with scoping.operator():
            row: Any = invoices.pay(invoice=invoice(acmes, AUGUST), payment="transfer 7", actor=ACTOR, now=SEPTEMBER)
    assert (row.state, row.paid, row.due, row.payment) == ("paid", 5, 0, "transfer 7")
    with scoping.operator():
        assert AuditEvent.objects.for_tenant(acmes).filter(verb="invoice.pay").count() == 1
        with pytest.raises(Conflict, match="give a credit note"):
            invoices.void(invoice=row, reason="wrong", actor=ACTOR, now=SEPTEMBER)


def test_what_a_void_invoice_billed_is_on_the_next_one(acmes: Tenant) -> None:
    close(AUGUST)
    used(acmes, AUGUST + DAY, predictions=2_000)
    for _ in range(2):
        with scoping.operator():
            row: Any = invoices.void(invoice=invoice(acmes, AUGUST), reason="wrong", actor=ACTOR, now=SEPTEMBER)
    assert (row.state, row.due, row.void_reason) == ("void", 0, "wrong")
    with scoping.operator(), pytest.raises(Conflict, match="void"):
        invoices.pay(invoice=row, payment="", actor=ACTOR, now=SEPTEMBER)
    assert close(AUGUST).invoices == 0
    close(SEPTEMBER)
    assert amounts(invoice(acmes, SEPTEMBER)) == [("adjustment", "2026-08", "6.00")]
    with scoping.operator():
        invoices.void(invoice=invoice(acmes, SEPTEMBER), reason="again", actor=ACTOR, now=OCTOBER)
    close(OCTOBER)
    row = invoice(acmes, OCTOBER)
    assert (row.number, amounts(row)) == ("INV-2026-000003", [("adjustment", "2026-08", "6.00")])


def test_a_void_invoice_returns_the_credit_that_it_used(acmes: Tenant) -> None:
    grant(acmes, 3)
    close(AUGUST)
    assert (invoice(acmes, AUGUST).due, left(acmes)) == (2, 0)
    with scoping.operator():
        invoices.void(invoice=invoice(acmes, AUGUST), reason="wrong", actor=ACTOR, now=SEPTEMBER)
    assert left(acmes) == 3
    close(SEPTEMBER)
    assert (invoice(acmes, SEPTEMBER).due, left(acmes)) == (2, 0)


def test_a_credit_note_takes_off_what_is_due_and_the_rest_is_credit(acmes: Tenant) -> None:
    grant(acmes, 3)
    close(AUGUST)
    row = invoice(acmes, AUGUST)
    with scoping.operator():
        first: Any = invoices.give_credit_note(invoice=row, amount="0.50", reason="sorry", actor=ACTOR, now=SEPTEMBER)
        assert (first.number, first.to_credit, invoice(acmes, AUGUST).due) == ("CRN-2026-000001", 0, Decimal("1.5"))
        second: Any = invoices.give_credit_note(invoice=row, amount=4, reason="very", actor=ACTOR, now=SEPTEMBER)
        assert (second.number, second.to_credit) == ("CRN-2026-000002", Decimal("2.5"))
        with pytest.raises(Conflict, match=r"0\.50 EUR of INV-2026-000001 are left"):
            invoices.give_credit_note(invoice=row, amount="0.51", reason="more", actor=ACTOR, now=SEPTEMBER)
        with pytest.raises(Conflict, match="has a credit note"):
            invoices.void(invoice=row, reason="wrong", actor=ACTOR, now=SEPTEMBER)
    row = invoice(acmes, AUGUST)
    assert (row.state, row.credited, row.due, left(acmes)) == ("paid", 2, 0, Decimal("2.5"))
    close(SEPTEMBER)
    with scoping.operator():
        assert not Invoice.objects.for_tenant(acmes).filter(month=SEPTEMBER.date()).exists()  # not billed again


# Credit


def test_the_credit_that_expires_first_is_used_first_and_what_has_expired_is_not(acmes: Tenant) -> None:
    grant(acmes, 2)
    grant(acmes, 2, expires_at=SEPTEMBER + DAY)
    grant(acmes, 100, expires_at=SEPTEMBER)
    assert left(acmes, now=SEPTEMBER) == 4
    used(acmes, SEPTEMBER + DAY, predictions=6_000)
    close(SEPTEMBER)  # 3.00: the one that ended with October pays nothing of it
    assert (invoice(acmes, SEPTEMBER).credit_used, left(acmes)) == (3, 1)
    with scoping.operator():
        assert CreditEntry.objects.for_tenant(acmes).filter(kind="used").count() == 2


def test_an_invoice_that_credit_pays_is_paid_when_it_is_issued(acmes: Tenant) -> None:
    grant(acmes, 100)
    close(AUGUST)
    row = invoice(acmes, AUGUST)
    assert (row.state, row.due, row.paid, left(acmes)) == ("paid", 0, 0, 95)


def test_credit_never_goes_below_zero_and_its_rows_stay(acmes: Tenant) -> None:
    grant(acmes, 2)
    with scoping.operator():
        given = CreditEntry.objects.for_tenant(acmes).get()
    for amount in (-3, 1):
        entry = CreditEntry(tenant=acmes, kind="used" if amount < 0 else "returned", source=given, amount=amount,
                            currency="EUR", actor=ACTOR)  # fmt: skip
        with pytest.raises(IntegrityError, match="would have"), scoping.operator():
            entry.save(force_insert=True)
    with pytest.raises(DatabaseError, match="never changed"), scoping.operator():
        CreditEntry.objects.for_tenant(acmes).update(amount=9)


@pytest.mark.parametrize(
    "amount", ["0", "-1", "NaN", "Infinity", "-Infinity", "1e13", "0.001", "1e-999999", "ten", None, "", "1.5.2"]
)
def test_an_amount_that_is_none_is_refused_with_words(amount: Any, acmes: Tenant) -> None:
    close(AUGUST)
    with pytest.raises(Invalid, match="Expected an amount above 0"):
        grant(acmes, amount)
    with pytest.raises(Invalid, match="Expected an amount above 0"), scoping.operator():
        invoices.give_credit_note(invoice=invoice(acmes, AUGUST), amount=amount, reason="x", actor=ACTOR, now=SEPTEMBER)
    with scoping.operator():
        assert not CreditNote.across_tenants.exists()
        assert not CreditEntry.across_tenants.exists()


def test_credit_is_given_in_the_currency_that_is_billed(acmes: Tenant) -> None:
    with pytest.raises(Invalid, match="Expected EUR"), scoping.operator():
        credit.grant(tenant=acmes, amount=5, currency="USD", expires_at=None, reason="", actor=ACTOR, now=AUGUST)
    with pytest.raises(Invalid, match="Expected a time after now"):
        grant(acmes, 5, expires_at=AUGUST, now=AUGUST)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 301])
def test_a_reason_is_asked_for(reason: str, acmes: Tenant) -> None:
    close(AUGUST)
    with scoping.operator():
        for act in (invoices.void, lambda **said: invoices.give_credit_note(amount=1, **said)):
            with pytest.raises(Invalid, match="reason: Expected 1 to 300"):
                act(invoice=invoice(acmes, AUGUST), reason=reason, actor=ACTOR, now=SEPTEMBER)


# Plans that change


def change(tenant: Tenant, plan: Plan, now: datetime) -> None:
    with scoping.operator():
        accounts.change_plan(tenant=tenant, plan=plan, actor=ACTOR, now=now)


@pytest.fixture
def pro(db: None) -> Plan:
    plan = Plan.objects.create(code="pro", name="Pro")
    Price.objects.create(plan=plan, meter="", model="flat", valid_from=date(2026, 1, 1), amount=31, unit="month")
    Price.objects.create(
        plan=plan, meter="predictions", valid_from=date(2026, 1, 1), amount=1, per=1000, unit="1,000 predictions"
    )
    return plan


def test_usage_is_billed_by_the_plan_with_which_its_hour_began(acmes: Tenant, pro: Plan) -> None:
    change(acmes, pro, AUGUST + 10 * DAY + timedelta(minutes=20))
    used(acmes, AUGUST + 10 * DAY + timedelta(minutes=59), predictions=1_000)  # standard still
    used(acmes, AUGUST + 10 * DAY + timedelta(hours=1), predictions=1_000)
    close(AUGUST)
    lines = lines_of(invoice(acmes, AUGUST))
    assert [(line.plan_id, line.meter, line.hours, f"{line.amount:.2f}") for line in lines] == [
        ("pro", "", 503, "20.96"),  # 31 * 503/744
        ("standard", "predictions", 241, "5.50"),
        ("pro", "predictions", 503, "1.00"),
    ]
    assert lines[1].description == "Predictions, 2026-08-01 00:00 to 2026-08-11 01:00"
    assert lines[0].month_hours == 744


def test_months_before_a_change_are_billed_by_the_plan_of_then(acmes: Tenant, pro: Plan) -> None:
    change(acmes, pro, SEPTEMBER + DAY)
    close(AUGUST)
    assert amounts(invoice(acmes, AUGUST)) == [("usage", "2026-08", "5.00")]


def test_of_two_changes_within_an_hour_the_last_one_holds(acmes: Tenant, pro: Plan) -> None:
    trial = Plan.objects.get(code="trial")
    change(acmes, pro, SEPTEMBER + timedelta(minutes=1))
    change(acmes, trial, SEPTEMBER + timedelta(minutes=2))
    used(acmes, SEPTEMBER + DAY, predictions=9_000)
    close(SEPTEMBER)
    assert [line.plan_id for line in lines_of(invoice(acmes, SEPTEMBER))] == ["trial"]
    with scoping.operator():
        assert [row.number for row in PlanChange.objects.for_tenant(acmes).order_by("number")] == [1, 2]


def test_a_plan_in_another_currency_is_refused_once_something_was_billed_or_used(acmes: Tenant) -> None:
    dollars = Plan.objects.create(code="dollars", name="Dollars", currency="USD")
    with pytest.raises(Conflict, match="keeps its currency"):
        change(acmes, dollars, AUGUST + DAY)
    with scoping.operator():
        assert Tenant.objects.get(pk=acmes.pk).plan_id == "standard"


def test_a_new_account_may_take_a_plan_in_another_currency(globex: Account) -> None:
    dollars = Plan.objects.create(code="dollars", name="Dollars", currency="USD")
    Price.objects.create(plan=dollars, meter="", model="flat", valid_from=date(2026, 1, 1), amount=10, unit="month")
    tenant = opened(globex)
    with pytest.raises(Conflict, match="keeps its currency"):
        change(tenant, dollars, SEPTEMBER)
    change(tenant, dollars, AUGUST + DAY)
    close(AUGUST)
    row = invoice(tenant, AUGUST)
    assert (row.currency, row.total) == ("USD", 10)


def test_a_plan_does_not_begin_in_a_month_that_is_closed(acmes: Tenant, pro: Plan) -> None:
    close(AUGUST)
    with pytest.raises(Conflict, match="2026-08 of acme is closed"):
        change(acmes, pro, AUGUST + DAY)
    change(acmes, pro, SEPTEMBER + DAY)
    with pytest.raises(Conflict, match="expected a later time"):
        change(acmes, Plan.objects.get(code="trial"), SEPTEMBER)


# Over HTTP


@pytest.fixture
def client(acme_client: APIClient, acmes: Tenant, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    monkeypatch.setattr(timezone, "now", lambda: OCTOBER + DAY)
    return acme_client


def test_an_issued_invoice_is_found_by_number_and_by_month(client: APIClient, acmes: Tenant) -> None:
    grant(acmes, 3)
    close(AUGUST)
    by_number = client.get("/api/v1/invoices/INV-2026-000001").json()
    assert client.get("/api/v1/invoices/2026-08").json() == by_number
    shown = ("id", "month", "state", "total", "credit_used", "credited", "paid", "due", "issued_at")
    assert [by_number[name] for name in shown] == [
        "INV-2026-000001", "2026-08", "issued", "5.00", "3.00", "0.00", "0.00", "2.00", "2026-09-01T00:00:00Z",
    ]  # fmt: skip
    listed = client.get("/api/v1/invoices").json()["results"]
    assert [(row["id"], row["state"]) for row in listed] == [
        ("2026-10", "draft"), ("2026-09", "draft"), ("INV-2026-000001", "issued"),
    ]  # fmt: skip
    assert [row["id"] for row in client.get("/api/v1/invoices?state=issued").json()["results"]] == ["INV-2026-000001"]
    assert client.get("/api/v1/credit").json() == {"currency": "EUR", "balance": "0.00"}
    entries = client.get("/api/v1/credit/entries").json()["results"]
    assert [(entry["kind"], entry["amount"], entry["invoice"]) for entry in entries] == [
        ("used", "-3", "INV-2026-000001"), ("grant", "3", None),
    ]  # fmt: skip


def test_anothers_invoice_is_missing(client: APIClient, acmes: Tenant, globex_client: APIClient) -> None:
    close(AUGUST)
    for name in ("INV-2026-000001", "INV-2026-000001.pdf", "INV-2026-000001.csv"):
        assert client.get(f"/api/v1/invoices/{name}").status_code == 200
        assert globex_client.get(f"/api/v1/invoices/{name}").status_code == 404


def test_csv_and_pdf(client: APIClient, acmes: Tenant, settings: Any) -> None:
    settings.INVOICE_ISSUER = {"name": "Models <b>& Sons</b>", "address": "Main Street 1\n1234 Town",
                               "vat_number": "XY123", "tax_line": "Reverse charge"}  # fmt: skip
    with scoping.operator():
        Price.objects.create(plan=acmes.plan, meter="requests", valid_from=date(2026, 2, 1), amount=1, unit="=1+1")
    used(acmes, AUGUST + DAY, requests=1)
    close(AUGUST)
    rows = client.get("/api/v1/invoices/INV-2026-000001.csv", HTTP_ACCEPT="text/csv").content.decode().splitlines()
    assert len(rows) == 3
    assert rows[1].startswith("INV-2026-000001,issued,1,usage,2026-08,standard,predictions,Predictions,10000,")
    assert ",'=1+1," in rows[2]
    answer = client.get("/api/v1/invoices/INV-2026-000001.pdf", HTTP_ACCEPT="application/pdf")
    assert answer["Content-Disposition"] == 'attachment; filename="INV-2026-000001.pdf"'
    assert answer.content.startswith(b"%PDF-")
    assert answer.content == client.get("/api/v1/invoices/2026-08.pdf").content
    draft = client.get("/api/v1/invoices/2026-09.pdf")
    assert draft.content.startswith(b"%PDF-")
    row = invoice(acmes, AUGUST)
    assert row.issuer["vat_number"] == "XY123"


def test_forty_lines_and_signs_of_all_kinds_make_a_pdf(acmes: Tenant) -> None:
    line = InvoiceLine(kind="usage", month=AUGUST.date(), description="<para>Ünï→中 & \"x\"", quantity=Decimal(1),
                       unit="<img src='file:///etc/passwd'/>", unit_price=Decimal(1), amount=Decimal(1),
                       tiers=[{"up_to": "5", "amount": "1"}, {"up_to": None, "amount": "0.5"}])  # fmt: skip
    row = billing.invoice_of(tenant=acmes, month=AUGUST.date(), lines=[line] * 40)
    content = invoice_pdf.render(bill=billing.Bill(row, (line,) * 40))
    assert len(re.findall(rb"/Type /Page\b", content)) > 1


@pytest.mark.parametrize(
    "path", ["INV-2026-999999", "INV-2026-1", "2026-07", "2027-01", "x.pdf", "2026-13.csv", "../x", "INV"]
)
def test_what_is_no_invoice_is_missing(path: str, client: APIClient) -> None:
    assert client.get(f"/api/v1/invoices/{path}").status_code == 404


# By the database


@pytest.mark.parametrize(
    "values",
    [
        {"amount": "NaN"}, {"amount": "-1"}, {"amount": "1e13"}, {"per": "0"}, {"per": "NaN"}, {"included": "-1"},
        {"minimum": "NaN"}, {"model": "flat"}, {"meter": ""}, {"model": "volume"},
        {"model": "volume", "tiers": '[{"up_to": "5", "amount": "1"}]'},
        {"model": "volume", "tiers": '[{"up_to": null, "amount": "1"}, {"up_to": "5", "amount": "1"}]'},
        {"model": "volume", "tiers": '[{"up_to": "5", "amount": "1"}, {"up_to": "5", "amount": "1"}, '
                                     '{"up_to": null, "amount": "1"}]'},
        {"model": "volume", "tiers": '[{"up_to": null, "amount": "NaN"}]'},
        {"model": "volume", "tiers": '[{"up_to": null, "amount": "-1"}]'},
        {"model": "volume", "tiers": '[{"up_to": "NaN", "amount": "1"}, {"up_to": null, "amount": "1"}]'},
        {"model": "volume", "tiers": '[{"up_to": null, "amount": "x"}]'},
        {"model": "volume", "tiers": '[{"amount": "1"}]'}, {"model": "volume", "tiers": '{"a": 1}'},
        {"model": "volume", "tiers": '["x"]'}, {"tiers": '[{"up_to": null, "amount": "1"}]'},
    ],
)  # fmt: skip
def test_a_price_that_does_not_hold_is_refused_by_the_database_too(values: dict[str, str], db: None) -> None:
    row = {"plan_id": "trial", "meter": "requests", "valid_from": "2027-01-01", "model": "per_unit", "amount": "1",
           "per": "1", "unit": "u", "included": "0", "minimum": "0", "tiers": "[]"} | values  # fmt: skip
    statement = f"INSERT INTO tenants_price ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, list(row.values()))
