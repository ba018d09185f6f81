"""A second rating, written apart from the service's and as plainly as can be: hour by hour, in fractions.

It shares no code with `tenants/pricing`. Everything is a plain dict or tuple, so that any test can call it.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

HOUR = timedelta(hours=1)


def rate_naively(
    *,
    month: date,
    used: Mapping[tuple[str, datetime], Any],
    changes: Sequence[tuple[datetime, str]],
    first_plan: str,
    prices: Sequence[Mapping[str, Any]],
    opened: datetime,
    decimals: int = 2,
) -> dict[tuple[str, str, date], Decimal]:
    """What each price version of each plan makes of a month: by (plan, meter, the day from which the version holds).

    `used` has a quantity for (meter, hour). `changes` are the moments at which the tenant went to another plan, in
    order. A price has plan, meter, valid_from, model, amount, per, included, minimum, tiers [(up_to or None, amount)].
    """
    hours = hours_of(month)
    quantity: dict[tuple[str, str, date], Fraction] = {}
    held: dict[tuple[str, str, date], int] = {}
    by_name = {(price["plan"], price["meter"], price["valid_from"]): price for price in prices}
    for hour in hours:
        plan = plan_in(hour, changes, first_plan)
        for meter in sorted({price["meter"] for price in prices if price["plan"] == plan}):
            version = version_on(hour.date(), plan, meter, prices)
            if version is None:
                continue
            name = (plan, meter, version)
            quantity[name] = quantity.get(name, Fraction(0)) + Fraction(used.get((meter, hour), 0))
            held[name] = held.get(name, 0) + (1 if hour + HOUR > opened else 0)
    costs = {}
    for name, units in quantity.items():
        exact = cost_of(by_name[name], units, Fraction(held[name], len(hours)))
        coins = half_even(exact * 10**decimals)
        if coins or units:
            costs[name] = Decimal(coins) / Decimal(10**decimals)
    return costs


def hours_of(month: date) -> list[datetime]:
    """The month's hours, in UTC."""
    hour = datetime.combine(month.replace(day=1), time(), UTC)
    found = []
    while hour.month == month.month:
        found.append(hour)
        hour += HOUR
    return found


def plan_in(hour: datetime, changes: Sequence[tuple[datetime, str]], first_plan: str) -> str:
    """The plan at the moment when the hour began."""
    plan = first_plan
    for moment, code in changes:
        if moment <= hour:
            plan = code
    return plan


def version_on(day: date, plan: str, meter: str, prices: Sequence[Mapping[str, Any]]) -> date | None:
    """The day from which the price holds that holds on this one."""
    begun = [p["valid_from"] for p in prices if p["plan"] == plan and p["meter"] == meter and p["valid_from"] <= day]
    return max(begun, default=None)


def cost_of(price: Mapping[str, Any], units: Fraction, share: Fraction) -> Fraction:
    """The exact cost of what was used while a version held for a share of the month."""
    amount, per = Fraction(price["amount"]), Fraction(price["per"])
    if price["model"] == "flat":
        return amount * share
    paid = units - Fraction(price["included"]) * share
    if paid < 0:
        paid = Fraction(0)
    if price["model"] == "per_unit":
        cost = paid / per * amount
    elif price["model"] == "package":
        cost = math.ceil(paid / per) * amount
    else:
        cost = tiered(price, paid, share) / per
    return max(cost, Fraction(price["minimum"]) * share)


def tiered(price: Mapping[str, Any], paid: Fraction, share: Fraction) -> Fraction:
    """Graduated: each tier's part of the units at its amount. Volume: all at the amount of the tier they end in."""
    whole = Fraction(0)
    floor = Fraction(0)
    for up_to, amount in price["tiers"]:
        top = paid if up_to is None else Fraction(up_to) * share
        if price["model"] == "volume" and paid <= top:
            return paid * Fraction(amount)
        inside = min(paid, top) - floor
        if inside > 0:
            whole += inside * Fraction(amount)
            floor += inside
    return whole


def half_even(number: Fraction) -> int:
    """The nearest whole number; of two that are equally near, the even one."""
    below = number.numerator // number.denominator
    rest = number - below
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2):
        return below + 1
    return below
