"""Prices times quantities: pure, in exact arithmetic, rounded once for each line of an invoice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction

EXACT = Context(prec=76)
DEFAULT_DECIMALS = 2
DECIMALS = {"BHD": 3, "CLP": 0, "ISK": 0, "JOD": 3, "JPY": 0, "KRW": 0, "KWD": 3, "OMR": 3, "TND": 3, "VND": 0}


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """`amount` for every `per` units of a meter from a day on, until the next price of the meter."""

    meter: str
    valid_from: date
    amount: Decimal
    per: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class Line:
    """What was used of a meter while one price held; `end` is the day after the last one."""

    meter: str
    start: date
    end: date
    quantity: Decimal
    price: FlatPrice
    amount: Decimal


def rate(
    *,
    quantities: Mapping[tuple[str, date], Decimal],
    prices: Iterable[FlatPrice],
    start: date,
    end: date,
    currency: str,
) -> list[Line]:
    """The lines for what was used of each meter on each day from `start` until before `end`.

    A price that begins in between has a line of its own. What no price is set for costs nothing and has no line, and
    neither has what was not used.
    """
    lines = []
    for price, first, until in sorted(spans(prices, start, end), key=lambda span: (span[0].meter, span[1])):
        with localcontext(EXACT):
            quantity = sum(
                (used for (meter, day), used in quantities.items() if meter == price.meter and first <= day < until),
                start=Decimal(0),
            )
        if quantity:
            cost = amount_of(quantity=quantity, price=price, currency=currency)
            lines.append(
                Line(meter=price.meter, start=first, end=until, quantity=quantity, price=price, amount=cost)
            )  # fmt: skip
    return lines


def amount_of(*, quantity: Decimal, price: FlatPrice, currency: str) -> Decimal:
    """The cost of a quantity, rounded half to even at the smallest coin of the currency."""
    decimals = DECIMALS.get(currency, DEFAULT_DECIMALS)
    exact = Fraction(quantity) * Fraction(price.amount) / Fraction(price.per)
    return Decimal(round(exact * 10**decimals)).scaleb(-decimals)


def total(*, lines: Iterable[Line], currency: str) -> Decimal:
    """The sum of the rounded lines."""
    zero = Decimal(0).scaleb(-DECIMALS.get(currency, DEFAULT_DECIMALS))
    return sum((line.amount for line in lines), start=zero)


def month_of(text: str) -> date | None:
    """The first day of the month written as `2026-11`; none if the text is no month."""
    year, dash, month = text.partition("-")
    if not (dash and len(year) == 4 and len(month) == 2 and text.isascii() and (year + month).isdigit()):
        return None
    return date(int(year), int(month), 1) if 1 <= int(month) <= 12 and int(year) >= 1 else None


def month_after(month: date) -> date:
    """The first day of the next month."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def spans(prices: Iterable[FlatPrice], start: date, end: date) -> Iterable[tuple[FlatPrice, date, date]]:
    """Each price with the days, of those asked for, on which it holds."""
    by_meter: dict[str, list[FlatPrice]] = {}
    for price in prices:
        by_meter.setdefault(price.meter, []).append(price)
    for versions in by_meter.values():
        versions.sort(key=lambda price: price.valid_from)
        ends = [price.valid_from for price in versions[1:]] + [date.max]
        for price, until in zip(versions, ends, strict=True):
            first, last = max(start, price.valid_from), min(end, until)
            if first < last:
                yield price, first, last
