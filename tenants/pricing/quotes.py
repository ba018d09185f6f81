"""Quotes: what background work will cost at most, by the price that holds when it is asked; nothing is promised yet."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from tenants import pricing
from tenants.models import Price, Tenant
from tenants.pricing import PriceVersion, plan_history


@dataclass(frozen=True, slots=True)
class Quote:
    """`at_most` is what `most` of the meter costs, rounded up; `expected` what is likelier, none where nobody knows.

    A meter without a price costs nothing. `assumes` says in words what the figures stand on.
    """

    meter: str
    currency: str
    price: PriceVersion | None
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


def price_at(*, tenant: Tenant, meter: str, now: datetime) -> PriceVersion | None:
    """The price of a meter that holds for the tenant; none if its plan has none."""
    held = Price.objects.filter(plan=tenant.plan_id, meter=meter, valid_from__lte=now.astimezone(UTC).date())
    row = held.order_by("-valid_from").first()
    return None if row is None else plan_history.version_of(row)


def cost(*, quantity: Decimal, price: PriceVersion | None, currency: str) -> Decimal:
    """What a quantity adds to a bill at most, rounded up to the smallest coin."""
    exact = Fraction(0) if price is None else pricing.at_most(price, quantity=quantity)
    decimals = pricing.DECIMALS.get(currency, pricing.DEFAULT_DECIMALS)
    return Decimal(math.ceil(exact * 10**decimals)).scaleb(-decimals)


def _of_price(tenant: Tenant, price: PriceVersion | None) -> str:
    if price is None:
        return f"The plan {tenant.plan.name} has no price for this."
    dearest = max((tier.amount for tier in price.tiers), default=price.amount)
    tier = ", that of the dearest tier," if price.tiers else ","
    allowance = " No included allowance is counted on." if price.included else ""
    return (
        f"The price of now{tier} {dearest.normalize():f} {tenant.plan.currency} per {price.unit}, holds until it is "
        f"done.{allowance}"
    )
