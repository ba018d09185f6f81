"""The terms of a tenant's month: which plan held in which of its hours, and that plan's prices. Bills keep them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from tenants.pricing.months import midnight, month_end, month_start
from tenants.pricing.tiers import read_tiers, written_tiers
from tenants.pricing.versions import PriceVersion


@dataclass(frozen=True, slots=True)
class PlanSpan:
    """The hours from `start` until before `end` in which a tenant had a plan."""

    plan: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What a month is rated by. `since` is the account's first hour: shares of the month count from it."""

    month: date
    currency: str
    since: datetime
    plans: tuple[PlanSpan, ...]
    prices: tuple[PriceVersion, ...]

    @property
    def start(self) -> datetime:
        return month_start(self.month)

    @property
    def end(self) -> datetime:
        return month_end(self.month)

    def bounds(self) -> list[datetime]:
        """The hours within the month at which another price may begin to hold, in order."""
        found = {span.start for span in self.plans} | {midnight(price.valid_from) for price in self.prices}
        return sorted(hour for hour in found if self.start < hour < self.end)


def frozen(terms: Terms) -> dict[str, Any]:
    """The terms as JSON, which an invoice keeps."""
    return {
        "month": terms.month.isoformat(),
        "currency": terms.currency,
        "since": terms.since.isoformat(),
        "plans": [[span.plan, span.start.isoformat(), span.end.isoformat()] for span in terms.plans],
        "prices": [_frozen(price) for price in terms.prices],
    }


def thawed(kept: Mapping[str, Any]) -> Terms:
    """The terms that an invoice keeps."""
    return Terms(
        month=date.fromisoformat(kept["month"]),
        currency=kept["currency"],
        since=datetime.fromisoformat(kept["since"]),
        plans=tuple(
            PlanSpan(plan, datetime.fromisoformat(start), datetime.fromisoformat(end))
            for plan, start, end in kept["plans"]
        ),
        prices=tuple(_thawed(price) for price in kept["prices"]),
    )


def _frozen(price: PriceVersion) -> dict[str, Any]:
    numbers = {name: f"{getattr(price, name):f}" for name in ("amount", "per", "included", "minimum")}
    return {
        "id": price.id,
        "plan": price.plan,
        "meter": price.meter,
        "valid_from": price.valid_from.isoformat(),
        "model": price.model,
        "unit": price.unit,
        "tiers": written_tiers(price.tiers),
        **numbers,
    }


def _thawed(kept: Mapping[str, Any]) -> PriceVersion:
    numbers = {name: Decimal(kept[name]) for name in ("amount", "per", "included", "minimum")}
    return PriceVersion(
        id=kept["id"],
        plan=kept["plan"],
        meter=kept["meter"],
        valid_from=date.fromisoformat(kept["valid_from"]),
        model=kept["model"],
        unit=kept["unit"],
        tiers=read_tiers(kept["tiers"]),
        **numbers,
    )


def joined(spans: Sequence[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    """Spans in order of time, those that touch made one."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)
