"""Bills: the draft of a month's invoice, worked out from the hourly sums whenever it is asked for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from django.db.models import Sum
from django.db.models.functions import TruncDay

from tenants import pricing
from tenants.errors import NotFound
from tenants.models import Meter, Plan, Price, Tenant, UsageHour
from tenants.pricing import FlatPrice

DESCRIPTIONS: dict[str, str] = {
    Meter.REQUESTS: "Requests",
    Meter.PREDICTIONS: "Predictions",
    Meter.BATCH_PREDICTIONS: "Batch predictions",
    Meter.COMPUTE_MS: "Compute time",
    Meter.INPUT_BYTES: "Input bytes",
    Meter.TRAINING_SECONDS: "Training",
    Meter.STORED_BYTE_HOURS: "Storage",
}


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """What one meter cost while one price held: `unit_price` for each `per` of its unit, rounded once into `amount`."""

    meter: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    per: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Invoice:
    """A month's bill. A draft changes as events arrive; `period_end` is the first moment after the month."""

    id: str
    state: str
    period_start: datetime
    period_end: datetime
    currency: str
    lines: tuple[InvoiceLine, ...]
    total: Decimal


def draft_invoice(*, tenant: Tenant, month: date, now: datetime) -> Invoice:
    """What the tenant owes for a month by its plan's prices; needs a scope that sees the tenant's rows."""
    first = month.replace(day=1)
    if not _month(tenant.created_at) <= first <= _month(now):
        raise NotFound(f"There is no invoice for {first:%Y-%m}.")
    end = pricing.month_after(first)
    currency = tenant.plan.currency
    lines = pricing.rate(
        quantities=_quantities(tenant, first, end), prices=prices_of(tenant), start=first, end=end, currency=currency
    )
    return Invoice(
        id=f"{first:%Y-%m}",
        state="draft",
        period_start=_midnight(first),
        period_end=_midnight(end),
        currency=currency,
        lines=tuple(_invoice_line(line, first, end) for line in lines),
        total=pricing.total(lines=lines, currency=currency),
    )


def months(*, tenant: Tenant, now: datetime) -> list[date]:
    """The months that the tenant has invoices for, newest first."""
    found = [_month(tenant.created_at)]
    while found[-1] < _month(now):
        found.append(pricing.month_after(found[-1]))
    return found[::-1]


def is_in_use(*, plan: Plan, valid_from: date, now: datetime) -> bool:
    """Whether somebody may have been told a bill by a price of this plan from this day: then it stays as it is."""
    return valid_from <= now.astimezone(UTC).date() and Tenant.objects.filter(plan=plan).exists()


def _quantities(tenant: Tenant, start: date, end: date) -> dict[tuple[str, date], Decimal]:
    rows = (
        UsageHour.objects.for_tenant(tenant)
        .filter(hour__gte=_midnight(start), hour__lt=_midnight(end))
        .values("meter", day=TruncDay("hour", tzinfo=UTC))
        .annotate(total=Sum("quantity"))
    )
    return {(row["meter"], row["day"].date()): row["total"] for row in rows}


def prices_of(tenant: Tenant) -> list[FlatPrice]:
    return [
        FlatPrice(meter=row.meter, valid_from=row.valid_from, amount=row.amount, per=row.per, unit=row.unit)
        for row in Price.objects.filter(plan=tenant.plan_id)
    ]


def _invoice_line(line: pricing.Line, start: date, end: date) -> InvoiceLine:
    description = DESCRIPTIONS[line.meter]
    if (line.start, line.end) != (start, end):
        last = date.fromordinal(line.end.toordinal() - 1)
        description += f", {line.start:%Y-%m-%d} to {last:%Y-%m-%d}"
    return InvoiceLine(
        meter=line.meter,
        description=description,
        quantity=line.quantity,
        unit=line.price.unit,
        unit_price=line.price.amount,
        per=line.price.per,
        amount=line.amount,
    )


def _month(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
