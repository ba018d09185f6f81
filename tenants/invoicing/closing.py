"""Closing a month: its bills become invoices, each tenant's month once, however often and from wherever it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from django.conf import settings

from tenants import audit, notices, pricing, scoping
from tenants.errors import Conflict, Invalid
from tenants.invoicing import adjustments, billing, credit, invoice_lines, numbering, quantities
from tenants.invoicing.billing import Bill
from tenants.invoicing.quantities import Proven
from tenants.ledger import producers
from tenants.models import ClosedMonth, CreditEntry, Invoice, InvoiceLine, InvoiceState, Tenant
from tenants.pricing import plan_history

AT_ONCE = 200  # tenants in one transaction


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing a month did: how many invoices, and for how many tenants there was nothing to bill."""

    invoices: int = 0
    nothing_to_bill: int = 0
    first: str = ""
    last: str = ""

    def __add__(self, other: "Closed") -> "Closed":
        return Closed(
            self.invoices + other.invoices,
            self.nothing_to_bill + other.nothing_to_bill,
            self.first or other.first,
            other.last or self.last,
        )


def close(*, month: date, actor: str, now: datetime, tenant: Tenant | None = None) -> Closed:
    """Issues the invoices of a month to all tenants, or to one, that have none yet; `now` is the database's time.

    Refused before the month's end, and while a producer may still bring events of before it. What arrives later is for
    the next invoice.
    """
    first = month.replace(day=1)
    end = pricing.month_end(first)
    if now < end:
        raise Conflict(f"{first:%Y-%m} ends at {end:%Y-%m-%d %H:%M} UTC; by the database's clock it is "
                       f"{now:%Y-%m-%d %H:%M}, and a month is closed after its end.")  # fmt: skip
    _refuse_while_usage_is_under_way(end)
    watermark = producers.complete_until()
    done = Closed()
    for ids in _not_closed(first, end, tenant):
        with scoping.operator():
            done += _close(ids, first, watermark, actor=actor, now=now)
    return done


def _refuse_while_usage_is_under_way(end: datetime) -> None:
    waiting = producers.blocking(end)
    if waiting:
        named = ", ".join(
            f"{each.producer} (complete until {each.complete_until:%Y-%m-%d %H:%M:%S})" for each in waiting[:5]
        )
        more = f" and {len(waiting) - 5} more" if len(waiting) > 5 else ""
        raise Conflict(f"Usage of before {end:%Y-%m-%d %H:%M} may still be under way from {named}{more}: "
                       "wait, or see to what has become of them.")  # fmt: skip


def _not_closed(month: date, end: datetime, tenant: Tenant | None) -> list[list[str]]:
    if tenant is not None and tenant.created_at >= end:
        raise Invalid(f"{tenant.name} was opened on {tenant.created_at:%Y-%m-%d}, after {month:%Y-%m}.")
    with scoping.operator():
        there = Tenant.objects.filter(created_at__lt=end, **({} if tenant is None else {"pk": tenant.pk}))
        closed = set(ClosedMonth.across_tenants.filter(month=month).values_list("tenant_id", flat=True))
        found = [pk for pk in there.order_by("pk").values_list("pk", flat=True) if pk not in closed]
    return [found[start : start + AT_ONCE] for start in range(0, len(found), AT_ONCE)]


def _close(ids: Sequence[str], month: date, watermark: datetime, *, actor: str, now: datetime) -> Closed:
    """One transaction: whoever closes the same tenants at the same time waits for it here, and finds them closed."""
    locked = Tenant.objects.filter(pk__in=ids).order_by("pk").select_for_update(no_key=True, of=["self"])
    tenants = {tenant.pk: tenant for tenant in locked.select_related("plan")}
    for done in ClosedMonth.across_tenants.filter(month=month, tenant__in=ids).values_list("tenant_id", flat=True):
        del tenants[done]
    bills, entries = _bills(list(tenants.values()), month, watermark, actor=actor, now=now)
    ClosedMonth.across_tenants.bulk_create(ClosedMonth(tenant_id=pk, month=month, closed_at=now) for pk in tenants)
    # The last thing, for it holds up everybody else who takes a number; without a commit no number was taken.
    for bill, number in zip(bills, numbering.take("INV", count=len(bills), now=now), strict=True):
        bill.invoice.number = number
    Invoice.across_tenants.bulk_create([bill.invoice for bill in bills])
    InvoiceLine.across_tenants.bulk_create([line for bill in bills for line in bill.lines], batch_size=2000)
    CreditEntry.across_tenants.bulk_create(entries)
    for bill in bills:
        _tell(bill, actor)
    numbers = [bill.invoice.number for bill in bills]
    return Closed(len(bills), len(tenants) - len(bills), *((numbers[0], numbers[-1]) if numbers else ()))


def _bills(
    tenants: Sequence[Tenant], month: date, watermark: datetime, *, actor: str, now: datetime
) -> tuple[list[Bill], list[CreditEntry]]:
    """The bills of those for whom there is something to bill, and what their credit pays of it."""
    terms = plan_history.terms(tenants=tenants, month=month)
    proven = quantities.proven(terms)
    late = adjustments.of(tenants=tenants)
    usable = credit.usable(tenants=tenants, month=month)
    bills, entries = [], []
    for tenant in tenants:
        found = proven.get(tenant.pk, Proven())
        lines = invoice_lines.lines(terms=terms[tenant.pk], quantities=found.quantities) + late.get(tenant.pk, [])
        if lines:
            invoice = billing.invoice_of(tenant=tenant, month=month, lines=lines)
            entries += credit.spend(invoice=invoice, credit_left=usable.get(tenant.pk, []), actor=actor, now=now)
            _freeze(invoice, now)
            invoice.terms, invoice.rollup_sha256 = pricing.frozen(terms[tenant.pk]), found.rollup_sha256
            invoice.watermark = watermark
            bills.append(Bill(invoice, tuple(lines)))
    return bills, entries


def _freeze(invoice: Invoice, now: datetime) -> None:
    """One that is paid by credit, or comes to nothing, is paid as soon as it is issued."""
    invoice.state, invoice.issued_at = InvoiceState.ISSUED, now
    invoice.issuer = dict(settings.INVOICE_ISSUER)
    if not invoice.due:
        invoice.state, invoice.paid_at = InvoiceState.PAID, now


def _tell(bill: Bill, actor: str) -> None:
    invoice = bill.invoice
    said = {"number": invoice.number, "month": f"{invoice.month:%Y-%m}", "currency": invoice.currency,
            "total": f"{invoice.total:f}"}  # fmt: skip
    audit.record(tenant=invoice.tenant_id, actor=actor, verb="invoice.issue", subject=invoice.number, **said)
    notices.announce(tenant=invoice.tenant_id, kind="invoice.issued", once=invoice.pk, due=f"{invoice.due:f}", **said)
