"""What every tenant would be billed for a month by now: summed by the database, and rated as its draft is."""

from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal

from django.db.models import Sum

from tenants import plan_history, pricing, quantities
from tenants.models import Tenant, UsageDay, UsageMonth
from tenants.pricing import Terms
from tenants.quantities import Quantities


def of(*, month: date, without: Collection[str] = ()) -> dict[str, Decimal]:
    """The totals by tenant, of those that owe something and are not in `without`; needs the operator's scope."""
    there = Tenant.objects.select_related("plan").filter(created_at__lt=pricing.month_end(month))
    terms = plan_history.terms(tenants=[tenant for tenant in there if tenant.pk not in without], month=month)
    used = _used(month, terms)
    totals = {}
    for tenant, each in terms.items():
        lines = pricing.rate(quantities=used.get(tenant, {}), terms=each)
        if lines:
            totals[tenant] = pricing.total([line.amount for line in lines], each.currency)
    return totals


def _used(month: date, terms: Mapping[str, Terms]) -> dict[str, Quantities]:
    """Quantities no finer than prices need: by months, by days where a price begins with one, else by hours."""
    bounds = {tenant: each.bounds() for tenant, each in terms.items()}
    by_day = {tenant for tenant, found in bounds.items() if found and not any(hour.hour for hour in found)}
    by_hour = {tenant: terms[tenant] for tenant, found in bounds.items() if found and tenant not in by_day}
    found: dict[str, Quantities] = quantities.of(by_hour)
    sums = UsageMonth.across_tenants.filter(month=month).values_list("tenant_id", "meter", "quantity")
    for tenant, meter, quantity in sums:
        if tenant in terms and not bounds[tenant]:
            found.setdefault(tenant, {})[meter, pricing.month_start(month)] = quantity
    days = UsageDay.across_tenants.filter(tenant__in=by_day, day__gte=month, day__lt=pricing.month_after(month))
    for row in days.values("tenant_id", "meter", "day").annotate(total=Sum("quantity")).order_by():
        found.setdefault(row["tenant_id"], {})[row["meter"], pricing.midnight(row["day"])] = row["total"]
    return found
