"""Lines of invoices, as rows that are not saved yet: pure."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from tenants import pricing
from tenants.models import InvoiceLine, LineKind, Meter
from tenants.pricing import Line, Terms
from tenants.pricing.rating import Quantities
from tenants.pricing.tiers import written_tiers
from tenants.pricing.versions import FLAT

DESCRIPTIONS: dict[str, str] = {
    "": "Monthly fee",
    Meter.REQUESTS: "Requests",
    Meter.PREDICTIONS: "Predictions",
    Meter.BATCH_PREDICTIONS: "Batch predictions",
    Meter.COMPUTE_MS: "Compute time",
    Meter.INPUT_BYTES: "Input bytes",
    Meter.TRAINING_SECONDS: "Training",
    Meter.STORED_BYTE_HOURS: "Storage",
}


def lines(*, terms: Terms, quantities: Quantities) -> list[InvoiceLine]:
    """What a month's quantities cost by its terms."""
    return [_line(line, terms) for line in pricing.rate(quantities=quantities, terms=terms)]


def adjustment(*, month: date, corrected: Decimal, billed: Decimal) -> InvoiceLine:
    """What an earlier month costs by all that has arrived since, less what was billed for it."""
    amount = corrected - billed
    return InvoiceLine(
        kind=LineKind.ADJUSTMENT,
        month=month,
        description=f"Adjustment of {month:%Y-%m}: {corrected:f} by all usage that has arrived, {billed:f} was billed",
        quantity=Decimal(1),
        unit="month",
        unit_price=amount,
        amount=amount,
    )


def _line(line: Line, terms: Terms) -> InvoiceLine:
    price = line.price
    return InvoiceLine(
        kind=LineKind.FEE if price.model == FLAT else LineKind.USAGE,
        month=terms.month,
        plan_id=price.plan,
        price_id=price.id,
        meter=price.meter,
        description=DESCRIPTIONS.get(price.meter, price.meter) + _when(line, terms),
        model=price.model,
        quantity=line.quantity,
        unit=price.unit,
        unit_price=price.amount,
        per=price.per,
        included=price.included,
        minimum=price.minimum,
        tiers=written_tiers(price.tiers),
        hours=line.hours,
        month_hours=line.month_hours,
        amount=line.amount,
    )


def _when(line: Line, terms: Terms) -> str:
    """Nothing where the price held all month; else its days, or hours, or how many hours they are together."""
    if line.spans == ((terms.start, terms.end),):
        return ""
    if len(line.spans) > 1:
        held = sum(pricing.hours_between(start, end) for start, end in line.spans)
        return f", {held} of {line.month_hours} hours"
    start, end = line.spans[0]
    if _is_midnight(start) and _is_midnight(end):
        return f", {start:%Y-%m-%d} to {end - timedelta(days=1):%Y-%m-%d}"
    return f", {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def _is_midnight(moment: datetime) -> bool:
    return moment.astimezone(UTC).hour == 0
