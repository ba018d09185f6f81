"""What every tenant would be billed for a month by now: summed by the database, and rated as its draft is."""

from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal

from tenants import pricing
from tenants.invoicing import quantities
from tenants.models import Tenant
from tenants.pricing import PlanSpan, Rating, plan_history


def of(*, month: date, without: Collection[str] = ()) -> dict[str, Decimal]:
    """The totals by tenant, of those that owe something and are not in `without`; needs the operator's scope."""
    there = Tenant.objects.only("plan_id", "created_at").filter(created_at__lt=pricing.month_end(month))
    terms = plan_history.terms(tenants=[tenant for tenant in there if tenant.pk not in without], month=month)
    used = quantities.of(terms)
    ratings: dict[tuple[tuple[PlanSpan, ...], datetime], Rating] = {}
    totals = {}
    for tenant, each in terms.items():
        alike = (each.plans, max(each.since, each.start))
        rating = ratings.get(alike)
        if rating is None:
            rating = ratings[alike] = Rating(each)
        if lines := rating.lines(used.get(tenant, {})):
            totals[tenant] = pricing.total([line.amount for line in lines], each.currency)
    return totals
