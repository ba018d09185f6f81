"""What one version of a price makes of a quantity."""

import math
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from tenants.pricing.tiers import Tier

FLAT, PER_UNIT, GRADUATED, VOLUME, PACKAGE = "flat", "per_unit", "graduated", "volume", "package"


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """A plan's price of a meter from a day on, until the next version; the fee of the plan itself has no meter.

    `amount`, and that of each tier, is for every `per` units. `included` units cost nothing; a month costs `minimum` at
    least.
    """

    meter: str
    valid_from: date
    amount: Decimal
    per: Decimal
    unit: str
    model: str = PER_UNIT
    included: Decimal = Decimal(0)
    minimum: Decimal = Decimal(0)
    tiers: tuple[Tier, ...] = ()
    plan: str = ""
    id: int | None = None


def cost(price: PriceVersion, *, quantity: Decimal, share: Fraction) -> Fraction:
    """The exact price of a quantity while the version held for a share (0 to 1) of the month.

    Fee, allowance, minimum and the bounds of tiers are for a whole month, so that much of each counts.
    """
    if price.model == FLAT:
        return Fraction(price.amount) * share
    units = Fraction(quantity)
    if price.included:
        units = max(Fraction(0), units - Fraction(price.included) * share)
    exact = _of_units(price, units, share)
    return max(exact, Fraction(price.minimum) * share) if price.minimum else exact


def at_most(price: PriceVersion, *, quantity: Decimal) -> Fraction:
    """What a quantity adds to a bill at most, whatever else is used: no allowance is counted on, and each unit is as
    dear as in the dearest tier. By volume it may move what else was used into another tier; that is not in it.
    """
    if price.model == FLAT:
        return Fraction(0)
    if price.model == PACKAGE:
        return math.ceil(Fraction(quantity) / Fraction(price.per)) * Fraction(price.amount)
    amount = max((tier.amount for tier in price.tiers), default=price.amount)
    return Fraction(quantity) * Fraction(amount) / Fraction(price.per)


def adds_at_most(price: PriceVersion, *, used: Decimal, cost_of_used: Fraction, quantity: Decimal) -> Fraction:
    """What a quantity more adds at most to what was used of the price already, and to what that costs.

    By volume all of it moves into another tier: each that may be reached from here on is reckoned with.
    """
    if price.model != VOLUME:
        return at_most(price, quantity=quantity)
    units = max(Fraction(0), Fraction(used) - Fraction(price.included))
    from_here = price.tiers[price.tiers.index(_tier_of(price.tiers, units, Fraction(1))) :]
    dearest = Fraction(max(tier.amount for tier in from_here))
    return max(Fraction(0), Fraction(used + quantity) * dearest / Fraction(price.per) - cost_of_used)


def affordable(price: PriceVersion, *, amount: Decimal, places: int) -> Decimal | None:
    """The greatest quantity, of so many places, that costs no more than an amount by `at_most`; none: it is free."""
    dearest = max((tier.amount for tier in price.tiers), default=price.amount)
    if price.model == FLAT or not dearest:
        return None
    exact = Fraction(amount) / Fraction(dearest)
    exact = (math.floor(exact) if price.model == PACKAGE else exact) * Fraction(price.per)
    return Decimal(math.floor(exact * 10**places)).scaleb(-places)


def each(price: PriceVersion) -> Fraction | None:
    """What each unit costs, where every unit costs the same and there is nothing else to it; else none."""
    plain = price.model == PER_UNIT and not (price.included or price.minimum)
    return _each(price.amount, price.per) if plain else None


def _of_units(price: PriceVersion, units: Fraction, share: Fraction) -> Fraction:
    if price.model == PACKAGE:
        return math.ceil(units / Fraction(price.per)) * Fraction(price.amount)
    if price.model == GRADUATED:
        return _graduated(price.tiers, units, share) / Fraction(price.per)
    if price.model == VOLUME:
        return units * Fraction(_tier_of(price.tiers, units, share).amount) / Fraction(price.per)
    return units * _each(price.amount, price.per)


@lru_cache(maxsize=4096)
def _each(amount: Decimal, per: Decimal) -> Fraction:
    return Fraction(amount) / Fraction(per)


def _graduated(tiers: tuple[Tier, ...], units: Fraction, share: Fraction) -> Fraction:
    """Each unit by the tier in which it lies."""
    result, below = Fraction(0), Fraction(0)
    for tier in tiers:
        top = units if tier.up_to is None else min(units, Fraction(tier.up_to) * share)
        if top > below:
            result += (top - below) * Fraction(tier.amount)
            below = top
    return result


def _tier_of(tiers: tuple[Tier, ...], units: Fraction, share: Fraction) -> Tier:
    """The tier in which the whole quantity lies."""
    return next(tier for tier in tiers if tier.up_to is None or units <= Fraction(tier.up_to) * share)
