"""Bills: a month's lines by the terms of its tenant, worked out from the hourly sums whenever they are asked for.

A draft has no row: it is derived. What closing a month issues (`closing.py`) is made by the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from tenants import pricing
from tenants.errors import NotFound
from tenants.invoicing import adjustments, credit, invoice_lines, quantities
from tenants.models import ClosedMonth, CreditNote, Invoice, InvoiceLine, InvoiceState, Plan, Price, Tenant
from tenants.pricing import PriceVersion, plan_history
from tenants.pricing.rating import Quantities


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice, which has no row while it is a draft, its lines and its credit notes; amounts are in whole coins."""

    invoice: Invoice
    lines: tuple[InvoiceLine, ...]
    notes: tuple[CreditNote, ...] = ()

    def __post_init__(self) -> None:
        currency = self.invoice.currency
        for line in self.lines:
            line.amount = pricing.in_coins(line.amount, currency)
        for note in self.notes:
            note.amount = pricing.in_coins(note.amount, currency)
            note.to_credit = pricing.in_coins(note.to_credit, currency)
        in_coins(self.invoice)

    @property
    def id(self) -> str:
        """The number, or of a draft the month."""
        return self.invoice.number or f"{self.invoice.month:%Y-%m}"

    @property
    def total(self) -> Decimal:
        return self.invoice.total

    @property
    def period_start(self) -> datetime:
        return pricing.month_start(self.invoice.month)

    @property
    def period_end(self) -> datetime:
        return pricing.month_end(self.invoice.month)


def rated(*, tenant: Tenant, month: date) -> list[InvoiceLine]:
    """What the usage and the fees of a month cost by now, without adjustments; needs a scope that sees the rows."""
    terms = plan_history.terms(tenants=[tenant], month=month.replace(day=1))
    used = quantities.of(terms)
    return invoice_lines.lines(terms=terms[tenant.pk], quantities=used.get(tenant.pk, {}))


def prices_of(tenant: Tenant) -> list[PriceVersion]:
    """All versions of the prices of the plan that a tenant has now, those that begin later among them."""
    return [plan_history.version_of(row) for row in Price.objects.filter(plan=tenant.plan_id)]


def cost_so_far(*, tenant: Tenant, now: datetime) -> Decimal:
    """What the month that runs has cost so far, its whole fees and minimums among it."""
    amounts = [line.amount for line in rated(tenant=tenant, month=now.astimezone(UTC).date())]
    return pricing.total(amounts, tenant.plan.currency)


def derive(*, invoice: Invoice, quantities: Quantities) -> list[InvoiceLine]:
    """The lines that an invoice must have for its own month, from quantities by (meter, hour), by the terms that it
    keeps: pure. Adjustments of earlier months are not among them.
    """
    return invoice_lines.lines(terms=pricing.thawed(invoice.terms), quantities=quantities)


def draft_invoice(*, tenant: Tenant, month: date, now: datetime) -> Bill:
    """What the tenant would be billed for a month that is not closed; needs a scope that sees the tenant's rows.

    Adjustments are on the draft of the oldest month that is not closed, for that is the next to be billed.
    """
    first = month.replace(day=1)
    still_open = open_months(tenant=tenant, now=now)
    if first not in still_open:
        raise NotFound(f"There is no draft of an invoice for {first:%Y-%m}.")
    terms = plan_history.terms(tenants=[tenant], month=first)
    used = quantities.of(terms)
    lines = invoice_lines.lines(terms=terms[tenant.pk], quantities=used.get(tenant.pk, {}))
    if first == still_open[-1]:
        lines += adjustments.of(tenants=[tenant]).get(tenant.pk, [])
    invoice = invoice_of(tenant=tenant, month=first, lines=lines)
    usable = credit.usable(tenants=[tenant], month=first)
    credit.spend(invoice=invoice, credit_left=usable.get(tenant.pk, []), actor="", now=now)
    return Bill(invoice, tuple(lines))


def invoice_of(*, tenant: Tenant, month: date, lines: Sequence[InvoiceLine]) -> Invoice:
    """The invoice that has these lines, as a draft; the lines become its own."""
    invoice = Invoice(
        tenant=tenant,
        month=month,
        state=InvoiceState.DRAFT,
        currency=tenant.plan.currency,
        total=pricing.total([line.amount for line in lines], tenant.plan.currency),
    )
    for position, line in enumerate(lines, 1):
        line.tenant, line.invoice, line.position = tenant, invoice, position
    return invoice


def in_coins(invoice: Invoice) -> Invoice:
    """The invoice with the decimals of its currency: a column keeps more."""
    for name in ("total", "credit_used", "credited", "paid"):
        setattr(invoice, name, pricing.in_coins(getattr(invoice, name), invoice.currency))
    return invoice


def months(*, tenant: Tenant, now: datetime) -> list[date]:
    """The months since the account was opened, newest first."""
    found = [_month(tenant.created_at)]
    while found[-1] < _month(now):
        found.append(pricing.month_after(found[-1]))
    return found[::-1]


def open_months(*, tenant: Tenant, now: datetime) -> list[date]:
    """The months that are not closed, newest first."""
    closed = set(ClosedMonth.objects.for_tenant(tenant).values_list("month", flat=True))
    return [month for month in months(tenant=tenant, now=now) if month not in closed]


def is_in_use(*, plan: Plan, valid_from: date, now: datetime) -> bool:
    """Whether somebody may have been told a bill by a price of this plan from this day: then it stays as it is."""
    return valid_from <= now.astimezone(UTC).date() and plan_history.had(plan)


def _month(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)
