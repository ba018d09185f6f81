"""Rating: what was used in each hour of a month by the price that held in it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from tenants.pricing.money import EXACT, rounded
from tenants.pricing.months import hours_between, midnight
from tenants.pricing.terms import Terms, joined
from tenants.pricing.versions import FLAT, PriceVersion, cost

Quantities = Mapping[tuple[str, datetime], Decimal]  # by meter and hour


@dataclass(frozen=True, slots=True)
class Line:
    """What was used of a meter in all hours of a month in which one version of a price held, and what that costs.

    `hours` of the month's `month_hours` count for what is prorated: those in which the account was open.
    """

    price: PriceVersion
    spans: tuple[tuple[datetime, datetime], ...]
    hours: int
    month_hours: int
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class _Held:
    price: PriceVersion
    start: datetime
    end: datetime


def rate(*, quantities: Quantities, terms: Terms) -> list[Line]:
    """The month's lines, one for each version of a price that held in it, the plan's fee first.

    A quantity's hour may stand for all hours up to the next of `terms.bounds()`. What no price is set for costs nothing
    and has no line, and neither has what was not used and costs nothing.
    """
    by_meter: dict[str, list[_Held]] = {}
    for held in sorted(_held(terms), key=lambda held: held.start):
        by_meter.setdefault(held.price.meter, []).append(held)
    used = _used(quantities, by_meter, terms)
    lines = [
        _line(price, [(held.start, held.end) for held in spans if held.price == price], used, terms)
        for spans in by_meter.values()
        for price in dict.fromkeys(held.price for held in spans)
    ]
    charged = [line for line in lines if line.amount or line.quantity]
    return sorted(charged, key=lambda line: (line.price.meter, line.spans[0]))


def _held(terms: Terms) -> Iterable[_Held]:
    """Each price with the hours of the month in which it held: those of its plan, until the meter's next price."""
    of_plan: dict[str, dict[str, list[PriceVersion]]] = {}
    for price in sorted(terms.prices, key=lambda price: price.valid_from):
        of_plan.setdefault(price.plan, {}).setdefault(price.meter, []).append(price)
    for span in terms.plans:
        for versions in of_plan.get(span.plan, {}).values():
            ends = [midnight(price.valid_from) for price in versions[1:]] + [terms.end]
            for price, until in zip(versions, ends, strict=True):
                start = max(terms.start, span.start, midnight(price.valid_from))
                end = min(terms.end, span.end, until)
                if start < end:
                    yield _Held(price, start, end)


def _used(quantities: Quantities, by_meter: Mapping[str, list[_Held]], terms: Terms) -> dict[PriceVersion, Decimal]:
    starts = {meter: [held.start for held in spans] for meter, spans in by_meter.items()}
    used: dict[PriceVersion, Decimal] = {}
    for (meter, hour), quantity in quantities.items():
        place = bisect_right(starts.get(meter, []), hour) - 1
        if place >= 0 and hour < by_meter[meter][place].end:
            price = by_meter[meter][place].price
            used[price] = EXACT.add(used.get(price, Decimal(0)), quantity)
    return used


def _line(
    price: PriceVersion, spans: list[tuple[datetime, datetime]], used: Mapping[PriceVersion, Decimal], terms: Terms
) -> Line:
    hours = sum(hours_between(max(start, terms.since), end) for start, end in spans)
    month_hours = hours_between(terms.start, terms.end)
    share = Fraction(hours, month_hours)
    quantity = Decimal(1) if price.model == FLAT else used.get(price, Decimal(0))
    amount = rounded(cost(price, quantity=quantity, share=share), terms.currency)
    if price.model == FLAT and not amount:
        quantity = Decimal(0)
    return Line(price, joined(spans), hours, month_hours, quantity, amount)
