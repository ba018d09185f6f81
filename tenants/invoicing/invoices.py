"""Invoices once they are issued: found, paid, voided, credited."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from tenants import audit, pricing
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.invoicing import billing, credit, numbering
from tenants.invoicing.billing import Bill
from tenants.models import CreditEntry, CreditKind, CreditNote, Invoice, InvoiceLine, InvoiceState, Tenant

REASON_LENGTH, PAYMENT_LENGTH = 300, 120


def get(*, tenant: Tenant, name: str, now: datetime) -> Bill:
    """The invoice of this number, or of the month (`2026-11`): a draft if the month is not closed."""
    rows = Invoice.objects.for_tenant(tenant)
    month = pricing.month_of(name)
    row = rows.filter(number=name).first() if month is None else rows.filter(month=month).first()
    if row is not None:
        return bill_of(row)
    if month is None or month not in billing.open_months(tenant=tenant, now=now):
        raise NotFound(f"There is no invoice {name!r}; expected its number or a month, as in 2026-11.")
    return billing.draft_invoice(tenant=tenant, month=month, now=now)


def bill_of(invoice: Invoice) -> Bill:
    """An issued invoice with its lines."""
    return _with_lines([invoice])[invoice.pk]


def listed(*, tenant: Tenant, now: datetime) -> list[tuple[date, Invoice | None]]:
    """The tenant's invoices, newest month first, and drafts (none) of months that are not closed."""
    issued = [(row.month, row) for row in Invoice.objects.for_tenant(tenant)]
    drafts = [(month, None) for month in billing.open_months(tenant=tenant, now=now)]
    return sorted([*issued, *drafts], key=lambda each: each[0], reverse=True)


def bills(*, tenant: Tenant, listed: Sequence[tuple[date, Invoice | None]], now: datetime) -> list[Bill]:
    """The bills of what is listed: drafts are derived, the others read with their lines in one query."""
    issued = _with_lines([row for _, row in listed if row is not None])
    return [
        issued[row.pk] if row is not None else billing.draft_invoice(tenant=tenant, month=month, now=now)
        for month, row in listed
    ]


def pay(*, invoice: Invoice, payment: str, actor: str, now: datetime) -> Invoice:
    """Notes that what was due has been paid. Asked twice, changes nothing."""
    _refuse_text("payment", payment, PAYMENT_LENGTH, needed=False)
    with transaction.atomic():
        row = _locked(invoice)
        if row.state == InvoiceState.PAID:
            return row
        if row.state == InvoiceState.VOID:
            raise Conflict(f"{row.number} is void: there is nothing to pay.")
        due = row.due
        row.paid += due
        row.state, row.paid_at, row.payment = InvoiceState.PAID, now, payment
        row.save(update_fields=["paid", "state", "paid_at", "payment"])
        audit.record(
            tenant=row.tenant_id,
            actor=actor,
            verb="invoice.pay",
            subject=row.number,
            amount=f"{due:f}",
            payment=payment,
        )
    return row


def void(*, invoice: Invoice, reason: str, actor: str, now: datetime) -> Invoice:
    """Takes an invoice back that nobody has paid; its credit is returned. Asked twice, changes nothing.

    Its number stays taken, and what it billed is billed by the tenant's next invoice as an adjustment: to let a tenant
    off, give a credit note.
    """
    _refuse_text("reason", reason, REASON_LENGTH)
    with transaction.atomic():
        row = _locked(invoice)
        if row.state == InvoiceState.VOID:
            return row
        if row.paid:
            raise Conflict(f"{row.number} was paid with {row.paid:f} {row.currency}: give a credit note instead.")
        if CreditNote.objects.for_tenant(row.tenant_id).filter(invoice=row).exists():
            raise Conflict(f"{row.number} has a credit note: an invoice is voided as a whole or credited, not both.")
        _refuse_if_its_credit_is_used(row)
        credit.give_back(invoice=row, actor=actor, now=now)
        row.state, row.voided_at, row.void_reason = InvoiceState.VOID, now, reason
        row.save(update_fields=["state", "voided_at", "void_reason"])
        audit.record(tenant=row.tenant_id, actor=actor, verb="invoice.void", subject=row.number, reason=reason)
    return row


def give_credit_note(*, invoice: Invoice, amount: Any, reason: str, actor: str, now: datetime) -> CreditNote:
    """Lowers an invoice: first what is still due of it, and the rest becomes credit of the tenant."""
    _refuse_text("reason", reason, REASON_LENGTH)
    money = credit.amount_of(amount, invoice.currency)
    with transaction.atomic():
        row = _locked(invoice)
        if row.state == InvoiceState.VOID:
            raise Conflict(f"{row.number} is void: there is nothing to credit.")
        before = CreditNote.objects.for_tenant(row.tenant_id).filter(invoice=row)
        left = row.total - pricing.total([note.amount for note in before], row.currency)
        if money > left:
            raise Conflict(f"{left:f} {row.currency} of {row.number} are left to credit; got {money:f}.")
        off = min(money, row.due)
        _take_off(row, off, now)
        if money > off:
            credit.from_credit_note(invoice=row, amount=money - off, reason=reason, actor=actor, now=now)
        note = CreditNote.objects.create(
            tenant_id=row.tenant_id, invoice=row, amount=money, to_credit=money - off, reason=reason, actor=actor,
            at=now, number=numbering.take("CRN", count=1, now=now)[0],
        )  # fmt: skip
        detail = {"invoice": row.number, "amount": f"{money:f}", "to_credit": f"{money - off:f}", "reason": reason}
        audit.record(tenant=row.tenant_id, actor=actor, verb="invoice.credit", subject=note.number, **detail)
    return note


def _with_lines(rows: Sequence[Invoice]) -> dict[str, Bill]:
    if not rows:
        return {}
    lines: dict[str, list[InvoiceLine]] = {row.pk: [] for row in rows}
    notes: dict[str, list[CreditNote]] = {row.pk: [] for row in rows}
    tenant, ids = rows[0].tenant_id, list(lines)
    for line in InvoiceLine.objects.for_tenant(tenant).filter(invoice__in=ids).order_by("position"):
        lines[line.invoice_id].append(line)
    for note in CreditNote.objects.for_tenant(tenant).filter(invoice__in=ids).order_by("number"):
        notes[note.invoice_id].append(note)
    return {row.pk: Bill(row, tuple(lines[row.pk]), tuple(notes[row.pk])) for row in rows}


def _take_off(row: Invoice, amount: Decimal, now: datetime) -> None:
    if not amount:
        return
    row.credited += amount
    if not row.due:
        row.state, row.paid_at = InvoiceState.PAID, now
    row.save(update_fields=["credited", "state", "paid_at"])


def _locked(invoice: Invoice) -> Invoice:
    """The tenant's row first, as closing does, for its credit hangs on it; then the invoice's."""
    Tenant.objects.filter(pk=invoice.tenant_id).select_for_update(no_key=True).get()
    return billing.in_coins(Invoice.objects.for_tenant(invoice.tenant_id).select_for_update().get(pk=invoice.pk))


def _refuse_if_its_credit_is_used(row: Invoice) -> None:
    """An invoice below zero gave credit; void, it would have to take back what may be spent."""
    given = CreditEntry.objects.for_tenant(row.tenant_id).filter(invoice=row, kind=CreditKind.INVOICE)
    if CreditEntry.objects.for_tenant(row.tenant_id).filter(source__in=given).exists():
        raise Conflict(f"{row.number} gave credit, and some of it is used: it cannot be voided any more.")


def _refuse_text(field: str, text: str, most: int, *, needed: bool = True) -> None:
    if len(text) > most or (needed and not text.strip()):
        message = f"Expected {'1' if needed else '0'} to {most} characters that say why or how; got {len(text)}."
        raise Invalid(f"{field}: {message}", errors=(FieldError(field, message),))
