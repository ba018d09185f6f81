"""What every tenant would be billed for a month by now: summed by the database, and rated as its draft is."""

from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from tenants import pricing
from tenants.invoicing import quantities
from tenants.models import Tenant
from tenants.pricing import PlanSpan, Rating, Terms, plan_history


class Account(NamedTuple):
    """Of a tenant what a total depends on."""

    pk: str
    plan_id: str
    created_at: datetime


def of(*, month: date, without: Collection[str] = ()) -> dict[str, Decimal]:
    """The totals by tenant, of those that owe something and are not in `without`; needs the operator's scope."""
    there = Tenant.objects.filter(created_at__lt=pricing.month_end(month)).values_list("pk", "plan_id", "created_at")
    terms = plan_history.terms(tenants=[Account(*row) for row in there if row[0] not in without], month=month)
    used = quantities.of(terms)
    ratings = _Ratings()
    totals = {}
    for tenant, each in terms.items():
        amount = ratings.of(each).amount(used.get(tenant, {}))
        if amount is not None:
            totals[tenant] = amount
    return totals


class _Ratings:
    """The rating of each terms; those that come to the same have one."""

    def __init__(self) -> None:
        self._by_id: dict[int, Rating] = {}
        self._alike: dict[tuple[tuple[PlanSpan, ...], datetime], Rating] = {}

    def of(self, terms: Terms) -> Rating:
        found = self._by_id.get(id(terms))
        if found is None:
            alike = (terms.plans, max(terms.since, terms.start))
            found = self._alike.get(alike)
            if found is None:
                found = self._alike[alike] = Rating(terms)
            self._by_id[id(terms)] = found
        return found
