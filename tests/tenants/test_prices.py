"""Prices are held to what prices are, in words."""

from datetime import date
from typing import Any

import pytest

from tenants.errors import Conflict, Invalid
from tenants.models import Plan, Price
from tenants.pricing import prices
from tests.conftest import Account
from tests.tenants.months import AUGUST

TIERS = [{"up_to": "5", "amount": "2"}, {"up_to": None, "amount": "1"}]
LATER = date(2026, 8, 2)


@pytest.fixture
def standard(acme: Account) -> Plan:
    return acme.tenant.plan


def add(plan: Plan, valid_from: date = LATER, currency: str = "EUR", **values: Any) -> Price:
    known = {"meter": "requests", "amount": "1", "unit": "request"}
    return prices.add(plan=plan, currency=currency, valid_from=valid_from, now=AUGUST, **(known | values))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"amount": "-1"}, "amount"), ({"amount": "NaN"}, "amount"), ({"amount": "sNaN"}, "amount"),
        ({"amount": "-Infinity"}, "amount"), ({"amount": "1e12000"}, "amount"), ({"amount": 10**13}, "amount"),
        ({"amount": "0.0000000000001"}, "amount"), ({"amount": [1]}, "amount"), ({"per": 0}, "per"),
        ({"per": "1e19"}, "per"), ({"included": -1}, "included"), ({"minimum": float("inf")}, "minimum"),
        ({"model": "cheap"}, "model"), ({"meter": "smiles"}, "meter"), ({"meter": ""}, "meter"),
        ({"model": "flat"}, "meter"), ({"model": "flat", "meter": "", "included": 5}, "included"),
        ({"model": "volume"}, "tiers"), ({"tiers": TIERS}, "tiers"), ({"unit": ""}, "unit"),
        ({"unit": "x" * 41}, "unit"), ({"colour": "red"}, "colour"), ({"currency": "USD"}, "currency"),
        ({"currency": "eur"}, "currency"),
    ],
)  # fmt: skip
def test_a_price_that_is_none_is_refused_with_words(values: dict[str, Any], field: str, standard: Plan) -> None:
    with pytest.raises(Invalid, match=r"xpected") as refused:
        add(standard, **values)
    assert [error.field for error in refused.value.errors] == [field]
    assert not Price.objects.filter(plan=standard, meter__in=["requests", ""]).exists()


def test_a_price_is_added_from_a_later_day_once(standard: Plan) -> None:
    assert add(standard, model="graduated", tiers=TIERS).tiers == TIERS
    with pytest.raises(Conflict, match="has a price of requests from 2026-08-02 already"):
        add(standard)
    with pytest.raises(Conflict, match="expected a day after today"):
        add(standard, valid_from=AUGUST.date())
