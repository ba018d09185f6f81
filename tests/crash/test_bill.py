"""The bill after crashes: its lines are those of a second, naive rating of the archived events."""

from collections import defaultdict
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import httpx
from django.utils.dateparse import parse_date

from tests.crash import oracle
from tests.crash.conftest import CrashSite, stop
from tests.crash.naive_rating import rate_naively

TERMS = """
import json
from tenants import scoping
from tenants.models import Price, Tenant
with scoping.operator():
    tenant = Tenant.objects.get(name="acme")
    prices = [
        {"plan": row.plan_id, "meter": row.meter, "valid_from": row.valid_from.isoformat(), "model": row.model,
         "amount": str(row.amount), "per": str(row.per), "included": str(row.included), "minimum": str(row.minimum),
         "tiers": [(tier["up_to"], tier["amount"]) for tier in row.tiers]}
        for row in Price.objects.filter(plan=tenant.plan_id)
    ]
    print(json.dumps({"id": tenant.pk, "plan": tenant.plan_id, "opened": tenant.created_at.isoformat(),
                      "prices": prices}))
"""
# Dear enough that a request more or less is seen on the bill, and of two models.
DEAR = """
from datetime import date
from tenants.models import Price
tiers = [{"up_to": "50", "amount": "1"}, {"up_to": None, "amount": "0.37"}]
Price.objects.get_or_create(plan_id="standard", meter="requests", valid_from=date(2026, 1, 1),
                            defaults={"amount": 0, "model": "graduated", "tiers": tiers, "unit": "request"})
Price.objects.get_or_create(plan_id="standard", meter="compute_ms", valid_from=date(2026, 1, 1),
                            defaults={"amount": "0.000003", "unit": "ms"})
Price.objects.filter(plan_id="standard", meter="predictions").update(per=1, amount="0.03")
print(1)
"""


def test_after_kills_the_bill_is_that_of_a_second_rating_of_the_archived_events(at: CrashSite) -> None:
    at.site.python(DEAR)
    server = at.site.start_server()
    with at.journal().running() as journal:
        for _ in range(3):
            journal.wait_for(100)
            server.kill()
            server.wait()
            server = at.site.start_server()
        journal.wait_for(100)
    stop(server)
    at.drain()
    ledger = oracle.check(at.site, journal.acknowledged)
    server = at.site.start_server(role="web")
    this_month = datetime.now(UTC).date().replace(day=1)
    bill = httpx.get(
        f"{at.site.url}/api/v1/invoices/{this_month:%Y-%m}", headers={"X-API-Key": at.key}, timeout=60
    ).json()
    stop(server)
    found = {line["meter"]: Fraction(line["amount"]) for line in bill["lines"]}
    expected = _rated(ledger.events, at.site.python(TERMS), this_month)
    assert found == expected
    assert {"requests", "predictions", "compute_ms"} <= found.keys()
    assert Fraction(bill["total"]) == sum(expected.values())


def _rated(events: list[list[Any]], terms: dict[str, Any], month: date) -> dict[str, Fraction]:
    """What each meter's lines come to, by meter."""
    used: dict[tuple[str, datetime], Fraction] = defaultdict(Fraction)
    for _, at_ms, tenant, _, _, _, meters in events:
        if tenant == terms["id"]:
            hour = datetime.fromtimestamp(at_ms / 1000, UTC).replace(minute=0, second=0, microsecond=0)
            for meter, quantity in meters.items():
                name, units = ("compute_ms", 1000) if meter == "compute_us" else (meter, 1)
                used[name, hour] += Fraction(quantity) / units
    prices = [price | {"valid_from": parse_date(price["valid_from"])} for price in terms["prices"]]
    opened = datetime.fromisoformat(terms["opened"])
    costs = rate_naively(
        month=month, used=used, changes=[], first_plan=terms["plan"], prices=prices, opened=opened
    )  # fmt: skip
    found: dict[str, Fraction] = defaultdict(Fraction)
    for (_, meter, _), amount in costs.items():
        found[meter] += Fraction(amount)
    return dict(found)
