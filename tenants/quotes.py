"""Quotes: what background work will cost at most, by the price that holds when it is asked; nothing is promised yet."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from tenants import pricing
from tenants.models import Price, Tenant
from tenants.pricing import FlatPrice


@dataclass(frozen=True, slots=True)
class Quote:
    """`at_most` is what `most` of the meter costs, rounded up; `expected` what is likelier, none where nobody knows.

    A meter without a price costs nothing. `assumes` says in words what the figures stand on.
    """

    meter: str
    currency: str
    price: FlatPrice | None
    most: Decimal
    at_most: Decimal
    likely: Decimal | None
    expected: Decimal | None
    assumes: tuple[str, ...]


def quote(
    *, tenant: Tenant, meter: str, most: Decimal, likely: Decimal | None, assumes: tuple[str, ...], now: datetime
) -> Quote:
    """What so much of a meter costs."""
    price, currency = price_at(tenant=tenant, meter=meter, now=now), tenant.plan.currency
    return Quote(
        meter=meter,
        currency=currency,
        price=price,
        most=most,
        at_most=cost(quantity=most, price=price, currency=currency),
        likely=likely,
        expected=None if likely is None else cost(quantity=likely, price=price, currency=currency),
        assumes=(*assumes, _of_price(tenant, price)),
    )


def price_at(*, tenant: Tenant, meter: str, now: datetime) -> FlatPrice | None:
    """The price of a meter that holds for the tenant; none if its plan has none."""
    held = Price.objects.filter(plan=tenant.plan_id, meter=meter, valid_from__lte=now.astimezone(UTC).date())
    row = held.order_by("-valid_from").first()
    if row is None:
        return None
    return FlatPrice(meter=row.meter, valid_from=row.valid_from, amount=row.amount, per=row.per, unit=row.unit)


def cost(*, quantity: Decimal, price: FlatPrice | None, currency: str) -> Decimal:
    """What a quantity costs, rounded up to the smallest coin."""
    exact = Fraction(0) if price is None else Fraction(quantity) * Fraction(price.amount) / Fraction(price.per)
    decimals = pricing.DECIMALS.get(currency, pricing.DEFAULT_DECIMALS)
    return Decimal(math.ceil(exact * 10**decimals)).scaleb(-decimals)


def _of_price(tenant: Tenant, price: FlatPrice | None) -> str:
    if price is None:
        return f"The plan {tenant.plan.name} has no price for this."
    amount = f"{price.amount.normalize():f} {tenant.plan.currency}"
    return f"The price of now, {amount} per {price.unit}, holds until it is done."
