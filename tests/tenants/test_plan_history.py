"""A thousand changes of plan in a month, made by the verb and billed by closing, beside the naive rating."""

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Sum

from tenants import accounts, scoping
from tenants.models import InvoiceLine, Plan, PlanChange, Price, UsageHour
from tenants.pricing import plan_history, prices
from tests.conftest import Account
from tests.crash import naive_rating
from tests.tenants.months import ACTOR, AUGUST, OCTOBER, SEPTEMBER, close, invoice, opened, used

PLANS: dict[str, list[dict[str, Any]]] = {
    "p0": [{"model": "flat", "amount": "99.99"}, {"meter": "predictions", "amount": "0.013", "included": "50000"}],
    "p1": [
        {"meter": "predictions", "model": "graduated", "amount": "0", "per": "1000",
         "tiers": [{"up_to": "90000", "amount": "7.77"}, {"up_to": None, "amount": "3.33"}]},
        {"meter": "training_seconds", "model": "package", "amount": "0.90", "per": "3600"},
    ],
    "p2": [
        {"meter": "predictions", "model": "volume", "amount": "0", "minimum": "250",
         "tiers": [{"up_to": "100000", "amount": "0.004"}, {"up_to": None, "amount": "0.0031"}]},
        {"model": "flat", "amount": "10"},
    ],
}  # fmt: skip


def some_plans() -> list[dict[str, Any]]:
    """Three plans, each with versions from before the month and from within it; as the oracle takes them."""
    found = []
    for code, written in PLANS.items():
        plan = Plan.objects.create(code=code, name=code)
        for values in written:
            for day, times in ((date(2026, 1, 1), 1), (date(2026, 8, 17), 2)):
                changed = values | {"amount": str(Decimal(str(values["amount"])) * times)}
                row = prices.add(plan=plan, currency="EUR", valid_from=day, now=AUGUST, unit="unit", **changed)
                found.append(as_the_oracle_takes_it(row))
    return found


def as_the_oracle_takes_it(row: Price) -> dict[str, Any]:
    version = plan_history.version_of(row)
    return {
        "plan": row.plan_id, "meter": row.meter, "valid_from": row.valid_from, "model": row.model,
        "amount": version.amount, "per": version.per, "included": version.included, "minimum": version.minimum,
        "tiers": [(tier.up_to, tier.amount) for tier in version.tiers],
    }  # fmt: skip


def test_a_thousand_changes_of_plan_are_billed_as_the_naive_rating_says(acme: Account) -> None:
    rng = random.Random(4)
    tenant, priced = opened(acme, AUGUST + timedelta(days=2, minutes=30)), some_plans()
    with scoping.operator():
        accounts.change_plan(tenant=tenant, plan=Plan.objects.get(code="p0"), actor=ACTOR, now=AUGUST)
    changes = [(AUGUST, "p0")]
    seconds = sorted(rng.uniform(0, 31 * 86400) for _ in range(1000))
    with scoping.operator():
        for second in seconds:
            moment, code = AUGUST + timedelta(seconds=second), rng.choice([p for p in PLANS if p != changes[-1][1]])
            accounts.change_plan(tenant=tenant, plan=Plan.objects.get(code=code), actor=ACTOR, now=moment)
            changes.append((moment, code))
    for _ in range(150):
        at = AUGUST + timedelta(seconds=rng.uniform(0, 31 * 86400))
        used(tenant, at, predictions=rng.randrange(5000), training_seconds=Decimal(rng.randrange(10**6)) / 100)
    close(AUGUST)
    with scoping.operator():
        lines = InvoiceLine.across_tenants.filter(invoice=invoice(tenant, AUGUST))
        billed = {(line.plan_id, line.meter, str(line.price and line.price.valid_from)): line.amount for line in lines}
        assert PlanChange.objects.for_tenant(tenant).count() == 1001
        hourly = UsageHour.objects.for_tenant(tenant).values_list("meter", "hour").annotate(total=Sum("quantity"))
        quantities = {(meter, hour): total for meter, hour, total in hourly}
    expected = naive_rating.rate_naively(
        month=AUGUST.date(), used=quantities, changes=changes, first_plan="standard", prices=priced,
        opened=tenant.created_at,
    )  # fmt: skip
    assert billed == {(plan, meter, str(day)): amount for (plan, meter, day), amount in expected.items()}
    assert len(billed) >= 10


def test_the_terms_of_a_month_are_those_of_then(acme: Account) -> None:
    tenant = opened(acme)
    some_plans()
    at: list[tuple[datetime, str]] = [(AUGUST + timedelta(days=9, minutes=1), "p0"), (SEPTEMBER, "p1")]
    with scoping.operator():
        for moment, code in at:
            accounts.change_plan(tenant=tenant, plan=Plan.objects.get(code=code), actor=ACTOR, now=moment)
        found = {
            month: [
                (span.plan, span.start, span.end)
                for span in plan_history.terms(tenants=[tenant], month=month.date())[tenant.pk].plans
            ]
            for month in (AUGUST, SEPTEMBER, OCTOBER)
        }
    changed = AUGUST + timedelta(days=9, hours=1)
    assert found[AUGUST] == [("standard", AUGUST, changed), ("p0", changed, SEPTEMBER)]
    assert found[SEPTEMBER] == [("p1", SEPTEMBER, OCTOBER)]
    assert [plan for plan, *_ in found[OCTOBER]] == ["p1"]


def test_a_plan_that_somebody_had_keeps_its_prices(acme: Account) -> None:
    tenant = opened(acme)
    some_plans()
    plan = Plan.objects.get(code="p0")
    with scoping.operator():
        assert not plan_history.had(plan)
        for code in ("p0", "p1"):
            accounts.change_plan(tenant=tenant, plan=Plan.objects.get(code=code), actor=ACTOR, now=AUGUST)
        assert plan_history.had(plan)
