"""Rating: what was used in each hour of a month by the price that held in it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from tenants.pricing.money import EXACT, Product, in_coins, rounded
from tenants.pricing.months import hours_between, midnight
from tenants.pricing.terms import Terms, joined
from tenants.pricing.versions import FLAT, PriceVersion, cost, each

NOTHING = Decimal(0)
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


@dataclass(slots=True)
class _Held:
    """A price in hours in which it held; `version` is its place among the rating's."""

    price: PriceVersion
    start: datetime
    end: datetime
    version: int = -1


class Rating:
    """The rating of a month by its terms. Tenants whose months have the same terms may share one."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._by_meter: dict[str, list[_Held]] = {}
        for held in sorted(_held(terms), key=lambda held: held.start):
            self._by_meter.setdefault(held.price.meter, []).append(held)
        self._starts = {meter: [held.start for held in spans] for meter, spans in self._by_meter.items()}
        self._versions: list[_Version] = []
        self._places: dict[tuple[str, datetime], int] = {}
        for spans in self._by_meter.values():
            for price in dict.fromkeys(held.price for held in spans):
                own = [held for held in spans if held.price == price]
                for held in own:
                    held.version = len(self._versions)
                self._versions.append(_Version(price, [(held.start, held.end) for held in own], terms))

    def lines(self, quantities: Quantities) -> list[Line]:
        """The lines, one for each version of a price that held in the month, the plan's fee first.

        A quantity's hour may stand for all hours up to the next of `terms.bounds()`. What no price is set for costs
        nothing and has no line, and neither has what was not used and costs nothing.
        """
        used = self._used(quantities)
        lines = [one.line(used.get(at, NOTHING)) for at, one in enumerate(self._versions)]
        charged = [line for line in lines if line.amount or line.quantity]
        return sorted(charged, key=lambda line: (line.price.meter, line.spans[0]))

    def amount(self, quantities: Quantities) -> Decimal | None:
        """The sum of the lines' amounts, in a fraction of their time; none where there would be no lines."""
        used = self._used(quantities)
        total, charged = Decimal(0), False
        for at, one in enumerate(self._versions):
            quantity = used.get(at, NOTHING)
            amount = one.amount(quantity)
            if amount:
                total = EXACT.add(total, amount)
            charged = charged or bool(amount) or bool(quantity)
        return in_coins(total, self._terms.currency) if charged else None

    def _used(self, quantities: Quantities) -> dict[int, Decimal]:
        """What was used while each version held, by its place."""
        used: dict[int, Decimal] = {}
        for when, quantity in quantities.items():
            version = self._places.get(when, -2)
            if version == -2:
                version = self._places[when] = self._version_at(*when)
            if version >= 0:
                used[version] = EXACT.add(used[version], quantity) if version in used else quantity
        return used

    def _version_at(self, meter: str, hour: datetime) -> int:
        """The place of the version of a meter's price that holds in an hour; -1 if none does."""
        place = bisect_right(self._starts.get(meter, ()), hour) - 1
        if place < 0 or hour >= (held := self._by_meter[meter][place]).end:
            return -1
        return held.version


def rate(*, quantities: Quantities, terms: Terms) -> list[Line]:
    """The month's lines."""
    return Rating(terms).lines(quantities)


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


class _Version:
    """A version of a price with the hours of the month in which it held."""

    def __init__(self, price: PriceVersion, spans: list[tuple[datetime, datetime]], terms: Terms) -> None:
        self.price = price
        self.spans = joined(spans)
        self._hours = sum(hours_between(max(start, terms.since), end) for start, end in spans)
        self._month_hours = hours_between(terms.start, terms.end)
        self._share = Fraction(self._hours, self._month_hours)
        self._currency = terms.currency
        unit = each(price)
        self._product = None if unit is None else Product(unit, terms.currency)

    def amount(self, used: Decimal) -> Decimal:
        """What so much costs."""
        if self._product is not None:
            return self._product.rounded(used)
        quantity = Decimal(1) if self.price.model == FLAT else used
        return rounded(cost(self.price, quantity=quantity, share=self._share), self._currency)

    def line(self, used: Decimal) -> Line:
        quantity = Decimal(1) if self.price.model == FLAT else used
        amount = self.amount(used)
        if self.price.model == FLAT and not amount:
            quantity = Decimal(0)
        return Line(self.price, self.spans, self._hours, self._month_hours, quantity, amount)
