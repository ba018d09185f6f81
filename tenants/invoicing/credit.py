"""Credit: given to tenants, used up by their invoices, those that expire first before the others, never below zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from tenants import audit, pricing
from tenants.errors import FieldError, Invalid
from tenants.models import CreditEntry, CreditKind, Invoice, Tenant

MOST = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class Credit:
    """What is left of an entry that gave credit."""

    entry: str
    tenant: str
    left: Decimal
    expires_at: datetime | None


def grant(
    *, tenant: Tenant, amount: Any, currency: str, expires_at: datetime | None, reason: str, actor: str, now: datetime
) -> CreditEntry:
    """Gives a tenant credit in the currency that it is billed in, until a moment or for good."""
    if currency != tenant.plan.currency:
        raise _invalid("currency", f"Expected {tenant.plan.currency}, in which {tenant.name} is billed; "
                                   f"got {currency[:40]!r}.")  # fmt: skip
    if expires_at is not None and expires_at <= now:
        raise _invalid("expires_at", f"Expected a time after now, {now:%Y-%m-%d %H:%M}; got {expires_at.isoformat()}.")
    money = amount_of(amount, currency)
    with transaction.atomic():
        entry = CreditEntry.objects.create(
            tenant=tenant, kind=CreditKind.GRANT, amount=money, currency=currency, at=now, expires_at=expires_at,
            reason=reason, actor=actor,
        )  # fmt: skip
        detail = {"amount": f"{money:f}", "currency": currency, "reason": reason}
        audit.record(tenant=tenant, actor=actor, verb="credit.grant", subject=entry.pk, **detail)
    return entry


def balance(*, tenant: Tenant, now: datetime) -> Decimal:
    """What is left of the tenant's credit, of what has not expired."""
    alive = [each for each in _left([tenant.pk]) if each.expires_at is None or each.expires_at > now]
    return pricing.total([each.left for each in alive], tenant.plan.currency)


def usable(*, tenants: Sequence[Tenant], month: date) -> dict[str, list[Credit]]:
    """The credit that may pay bills of a month, in the order of its use: it had not expired when the month began."""
    start = pricing.month_start(month)
    found: dict[str, list[Credit]] = {}
    for each in _left([tenant.pk for tenant in tenants]):
        if each.expires_at is None or each.expires_at > start:
            found.setdefault(each.tenant, []).append(each)
    return found


def spend(*, invoice: Invoice, credit_left: Sequence[Credit], actor: str, now: datetime) -> list[CreditEntry]:
    """The unsaved entries by which credit pays what it can of a new invoice; one below zero gives credit instead."""
    if invoice.total < 0:
        invoice.credit_used = invoice.total
        return [_entry(invoice, CreditKind.INVOICE, -invoice.total, actor, now)]
    entries = []
    for credit in credit_left:
        taken = min(credit.left, invoice.total - invoice.credit_used)
        if taken > 0:
            invoice.credit_used += taken
            entries.append(_entry(invoice, CreditKind.USED, -taken, actor, now, source=credit.entry))
    return entries


def give_back(*, invoice: Invoice, actor: str, now: datetime) -> None:
    """Undoes what an invoice did to the credit: what it used is returned, to expire when it would have."""
    entries = []
    for row in CreditEntry.objects.for_tenant(invoice.tenant_id).filter(invoice=invoice, kind=CreditKind.USED):
        entries.append(_entry(invoice, CreditKind.RETURNED, -row.amount, actor, now, source=row.source_id))
    for row in CreditEntry.objects.for_tenant(invoice.tenant_id).filter(invoice=invoice, kind=CreditKind.INVOICE):
        entries.append(_entry(invoice, CreditKind.USED, -row.amount, actor, now, source=row.pk))
    CreditEntry.across_tenants.bulk_create(entries)


def from_credit_note(*, invoice: Invoice, amount: Decimal, reason: str, actor: str, now: datetime) -> CreditEntry:
    """Gives what a credit note returns of an invoice that was settled."""
    entry = _entry(invoice, CreditKind.CREDIT_NOTE, amount, actor, now)
    entry.reason = reason
    entry.save(force_insert=True)
    return entry


def amount_of(written: Any, currency: str) -> Decimal:
    """An amount of money above zero in whole coins of its currency, or a refusal that says what was expected."""
    decimals = pricing.DECIMALS.get(currency, pricing.DEFAULT_DECIMALS)
    expected = f"Expected an amount above 0 and up to {MOST:,f} with at most {decimals} decimals; got {written!r:.60}."
    try:
        amount = Decimal(str(written))
    except InvalidOperation as error:
        raise _invalid("amount", expected) from error
    if not amount.is_finite() or not 0 < amount <= MOST or int(amount.as_tuple().exponent) < -100:
        raise _invalid("amount", expected)
    coins = round(amount, decimals)
    if coins != amount:
        raise _invalid("amount", expected)
    return coins


def _left(tenants: Sequence[str]) -> list[Credit]:
    owned = CreditEntry.across_tenants.filter(tenant__in=tenants)
    taken = {
        row["source"]: row["total"]
        for row in owned.exclude(source=None).values("source").annotate(total=Coalesce(Sum("amount"), Decimal(0)))
    }
    given = owned.filter(source=None).order_by(F("expires_at").asc(nulls_last=True), "pk")
    found = [Credit(row.pk, row.tenant_id, row.amount + taken.get(row.pk, Decimal(0)), row.expires_at) for row in given]
    return [each for each in found if each.left > 0]


def _entry(
    invoice: Invoice, kind: CreditKind, amount: Decimal, actor: str, now: datetime, source: str | None = None
) -> CreditEntry:
    return CreditEntry(
        tenant_id=invoice.tenant_id, invoice=invoice, kind=kind, amount=amount, currency=invoice.currency, at=now,
        source_id=source, actor=actor,
    )  # fmt: skip


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=(FieldError(field, message),))
