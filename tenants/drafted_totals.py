"""What every tenant would be billed for a month by now: summed by the database, and rated as its draft is."""

from collections.abc import Collection, Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Case, DateField, Q, Sum, Value, When

from tenants import pricing
from tenants.models import Plan, Price, Tenant, UsageDay, UsageMonth
from tenants.pricing import FlatPrice

Quantities = dict[tuple[str, date], Decimal]


def of(*, month: date, without: Collection[str] = ()) -> dict[str, Decimal]:
    """The totals by tenant, of those that used something and are not in `without`; needs the operator's scope.

    Quantities are summed no finer than prices need: by months, and where prices begin amid the month, up to the days.
    """
    end = pricing.month_after(month)
    prices = _prices()
    currencies = dict(Plan.objects.values_list("pk", "currency"))
    plans = dict(Tenant.objects.values_list("pk", "plan_id"))
    totals = {}
    for tenant, quantities in _quantities(month, end, prices).items():
        if tenant in without:
            continue
        plan = plans[tenant]
        currency = currencies[plan]
        lines = pricing.rate(
            quantities=quantities, prices=prices.get(plan, ()), start=month, end=end, currency=currency
        )  # fmt: skip
        totals[tenant] = pricing.total(lines=lines, currency=currency)
    return totals


def _quantities(month: date, end: date, prices: dict[str, list[FlatPrice]]) -> dict[str, Quantities]:
    found: dict[str, Quantities] = {}
    by_day = _amid(month, end, prices)
    for tenant, meter, quantity in _by_month(month, by_day):
        found.setdefault(tenant, {})[meter, month] = quantity
    for plan, meters in by_day.items():
        begun = sorted({p.valid_from for p in prices[plan] if p.meter in meters and month < p.valid_from < end})
        since = Case(
            *(When(day__gte=day, then=Value(day, DateField())) for day in reversed(begun)),
            default=Value(month, DateField()),
        )
        days = UsageDay.across_tenants.filter(tenant__plan=plan, meter__in=meters, day__gte=month, day__lt=end)
        sums = days.values("tenant_id", "meter", since=since).annotate(total=Sum("quantity")).order_by()
        for tenant, meter, day, quantity in sums.values_list("tenant_id", "meter", "since", "total"):
            found.setdefault(tenant, {})[meter, day] = quantity
    return found


def _by_month(month: date, by_day: dict[str, set[str]]) -> Iterable[tuple[str, str, Decimal]]:
    rows = UsageMonth.across_tenants.filter(month=month)
    apart = Q()
    for plan, meters in by_day.items():
        apart |= Q(tenant__plan=plan, meter__in=meters)
    return (rows.exclude(apart) if apart else rows).values_list("tenant_id", "meter", "quantity")


def _amid(month: date, end: date, prices: dict[str, list[FlatPrice]]) -> dict[str, set[str]]:
    """The plans with the meters of which a price begins after the month's first day and before its end."""
    found: dict[str, set[str]] = {}
    for plan, versions in prices.items():
        for price in versions:
            if month < price.valid_from < end:
                found.setdefault(plan, set()).add(price.meter)
    return found


def _prices() -> dict[str, list[FlatPrice]]:
    found: dict[str, list[FlatPrice]] = {}
    row: Any
    for row in Price.objects.all():
        price = FlatPrice(meter=row.meter, valid_from=row.valid_from, amount=row.amount, per=row.per, unit=row.unit)
        found.setdefault(row.plan_id, []).append(price)
    return found
