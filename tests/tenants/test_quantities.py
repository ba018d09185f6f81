"""Quantities of a month: read from months, days and hours, they come to what its hours come to one by one."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tenants import pricing, scoping
from tenants.invoicing import quantities
from tenants.models import Plan, PlanChange, Price, Tenant, UsageHour
from tenants.pricing import Terms, plan_history
from tests.conftest import Account
from tests.tenants.months import used

NOVEMBER = date(2026, 11, 1)
BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
METERS = ("training_seconds", "stored_byte_hours", "compute_us")
HOURS = st.integers(0, 30 * 24 - 1)
# Prices from a day, plan changes from an hour, and what was used in an hour: by whom, of what, how much.
PRICES = st.lists(st.tuples(st.sampled_from(METERS[:2]), st.integers(1, 30)), max_size=4, unique=True)
CHANGES = st.lists(HOURS, max_size=3, unique=True).map(sorted)
EVENTS = st.lists(st.tuples(st.booleans(), HOURS, st.sampled_from(METERS), st.integers(1, 10**9)), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prices=PRICES, changes=CHANGES, events=EVENTS)
@example(prices=[], changes=[], events=[(True, 719, "training_seconds", 5)])
@example(
    prices=[("training_seconds", 10)],
    changes=[],
    events=[(True, 0, "training_seconds", 5), (False, 719, "training_seconds", 7)],
)
@example(
    prices=[],
    changes=[9, 240],
    events=[(True, 8, "training_seconds", 5), (True, 9, "training_seconds", 3), (True, 700, METERS[1], 2)],
)
def test_what_was_used_while_a_price_held_is_the_sum_of_its_hours(
    prices: list[Any], changes: list[int], events: list[Any], acme: Account, globex: Account
) -> None:
    with transaction.atomic(), scoping.operator():
        Tenant.objects.update(created_at=datetime(2026, 9, 15, tzinfo=UTC))
        for meter, day in prices:
            Price.objects.create(
                plan_id="standard", meter=meter, valid_from=date(2026, 11, day), amount=1, per=1, unit="units"
            )
        _move_between_plans(acme.tenant, changes)
        for first, hour, meter, quantity in events:
            value = quantity if meter == "compute_us" else Decimal(quantity).scaleb(-3)
            used(acme.tenant if first else globex.tenant, BEGUN + timedelta(hours=hour, minutes=7), **{meter: value})  # type: ignore[arg-type]
        terms = plan_history.terms(tenants=list(Tenant.objects.all()), month=NOVEMBER)
        found = quantities.of(terms)
        for tenant, each in terms.items():
            priced = {price.meter for price in each.prices}
            by_price = {place: sum_ for place, sum_ in _by_price(tenant, each).items() if place[0] in priced}
            assert _without_nothing(pricing.Rating(each)._used(found.get(tenant, {}))) == _without_nothing(
                pricing.Rating(each)._used(by_price)
            )
            assert pricing.Rating(each).amount(found.get(tenant, {})) == _amount(each, by_price)
        transaction.set_rollback(True)


def _move_between_plans(tenant: Tenant, hours: list[int]) -> None:
    standard = Plan.objects.get(code="standard")
    other = Plan.objects.create(code="other", name="Other", currency=standard.currency)
    for meter in METERS[:2]:
        Price.objects.create(plan=other, meter=meter, valid_from=date(2026, 1, 1), amount=2, per=1, unit="units")
    plans = [standard, other]
    for number, hour in enumerate(hours):
        at = BEGUN + timedelta(hours=hour)
        PlanChange.objects.create(
            tenant=tenant, number=number + 1, before=plans[number % 2], after=plans[(number + 1) % 2], at=at,
            holds_from=at, actor="operator:test",
        )  # fmt: skip


def _by_price(tenant: str, terms: Terms) -> dict[tuple[str, datetime], Decimal]:
    """The hours of the rollup one by one."""
    found: dict[tuple[str, datetime], Decimal] = defaultdict(Decimal)
    for row in UsageHour.across_tenants.filter(tenant=tenant, hour__gte=terms.start, hour__lt=terms.end):
        found[row.meter, row.hour] += row.quantity
    return found


def _amount(terms: Terms, by_hour: dict[tuple[str, datetime], Decimal]) -> Decimal | None:
    lines = pricing.rate(quantities=by_hour, terms=terms)
    return pricing.total([line.amount for line in lines], terms.currency) if lines else None


def _without_nothing(sums: dict[int, Decimal]) -> dict[int, Decimal]:
    return {place: quantity for place, quantity in sums.items() if quantity}
