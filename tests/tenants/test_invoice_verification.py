"""The proof of an invoice: equal by the archive, or the difference is named."""

from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tenants import scoping
from tenants.invoicing import invoices
from tenants.models import InvoiceLine, Tenant, UsageHour, UsageSegment
from tests.conftest import Account
from tests.tenants.months import ACTOR, AUGUST, SEPTEMBER, close, invoice, opened, used


def verify(number: str) -> str:
    out = StringIO()
    call_command("verify_invoice", number, stdout=out)
    return out.getvalue()


def tamper(tenant: Tenant, month: datetime, **values: Any) -> None:
    """Changes lines of an invoice as only somebody can who has the database: they are never changed otherwise."""
    row = invoice(tenant, month)
    with scoping.operator(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE tenants_invoiceline DISABLE TRIGGER USER")
        lines = InvoiceLine.across_tenants.filter(invoice=row)
        (lines.filter(kind="adjustment") if month == SEPTEMBER else lines).update(**values)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE tenants_invoiceline ENABLE TRIGGER USER")


def closed(tenant: Tenant) -> str:
    """August's invoice, closed now: after all that was used had arrived."""
    close(AUGUST, now=timezone.now())
    number: str = invoice(tenant, AUGUST).number
    return number


def test_an_invoice_is_derived_again_from_the_archive(acme: Account, globex: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000, compute_us=12_345)
    used(tenant, SEPTEMBER - timedelta(milliseconds=1), key="key_2", predictions=7)
    used(opened(globex), AUGUST, predictions=5)
    said = verify(closed(tenant))
    assert said.startswith("Equal: INV-")
    assert "of acme for 2026-08, 2 events in 3 segments, 5.00 EUR." in said


def test_what_arrived_after_an_invoice_is_for_the_next_one_and_both_are_proven(acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    first = closed(tenant)
    used(tenant, AUGUST, key="key_late", predictions=2_000)
    assert "1 hourly sums arrived or grew later" in verify(first)
    used(tenant, SEPTEMBER, predictions=1_000)
    close(SEPTEMBER, now=timezone.now())
    second = invoice(tenant, SEPTEMBER)
    assert second.total == Decimal("1.50")
    assert verify(second.number).startswith("Equal: ")
    assert verify(first).startswith("Equal: ")


def test_an_adjustment_that_is_none_is_named(acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    closed(tenant)
    used(tenant, AUGUST, predictions=2_000)
    close(SEPTEMBER, now=timezone.now())
    second = invoice(tenant, SEPTEMBER)
    tamper(tenant, SEPTEMBER, amount=Decimal(9))
    with pytest.raises(CommandError, match=r"adjustment of 2026-08: billed 9.000; by the archive the month costs 6.00"):
        verify(second.number)


def test_a_voided_invoice_is_billed_anew_and_both_are_proven(acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    first = closed(tenant)
    with scoping.operator():
        row = invoice(tenant, AUGUST)
        invoices.void(invoice=row, reason="wrong address", actor=ACTOR, now=timezone.now())
    close(SEPTEMBER, now=timezone.now())
    second = invoice(tenant, SEPTEMBER)
    assert second.total == 5
    assert verify(first).startswith("Equal: ")
    assert verify(second.number).startswith("Equal: ")


def test_each_tampering_is_named(acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    number = closed(tenant)
    tamper(tenant, AUGUST, quantity=20_000, amount=10)
    with pytest.raises(CommandError, match=r"billed 10 for 20000 .*, by the archive 5 for 10000"):
        verify(number)
    tamper(tenant, AUGUST, quantity=10_000, amount=5)
    with scoping.operator():
        UsageHour.across_tenants.filter(tenant=tenant, meter="predictions").update(quantity=1)
    with pytest.raises(CommandError, match="10000 in the archive, 1 in the rollup"):
        verify(number)
    with scoping.operator():
        UsageHour.across_tenants.filter(tenant=tenant, meter="predictions").update(quantity=10_000)
    assert verify(number).startswith("Equal: ")


def test_evidence_that_is_gone_or_was_changed_proves_nothing(acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    number = closed(tenant)
    file = Path(default_storage.path(UsageSegment.objects.get().archived_as))
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:-1])
    with pytest.raises(CommandError, match="NOT EQUAL"):
        verify(number)
    file.write_bytes(whole)
    assert verify(number).startswith("Equal: ")
    file.unlink()
    with pytest.raises(CommandError, match="NOT EQUAL"):
        verify(number)


def test_a_number_that_is_none_is_said(acme: Account) -> None:
    with pytest.raises(CommandError, match="There is no invoice 'INV-2026-999999'"):
        verify("INV-2026-999999")
