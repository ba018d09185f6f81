"""Budgets and quotes: money into quantities and back, never a coin too much."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import pricing, scoping
from tenants.errors import Invalid
from tenants.limits import budgets
from tenants.limits.budgets import Budget
from tenants.models import Plan, Price, Tenant
from tenants.pricing import PriceVersion, quotes
from tests.conftest import Account

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
METER = "training_seconds"


@pytest.fixture
def tenant(acme: Account) -> Iterator[Tenant]:
    """Training costs 0.90 an hour, and from the first of December 1.80."""
    with scoping.tenant(acme.tenant.pk):
        Price.objects.create(
            plan_id="standard", meter=METER, valid_from=date(2026, 12, 1), amount=Decimal("1.80"), per=Decimal(3600),
            unit="training hour",
        )  # fmt: skip
        yield acme.tenant


def paid(tenant: Tenant, amount: str, now: datetime = NOW) -> Decimal | None:
    budget = Budget(Decimal(amount), "EUR")
    return budgets.pays(tenant=tenant, budget=budget, meter=METER, now=now, places=3)


def test_a_budget_pays_by_the_price_of_the_day(tenant: Tenant) -> None:
    assert paid(tenant, "0.90") == 3600
    assert paid(tenant, "0.01") == 40
    assert paid(tenant, "0.90", NOW + timedelta(days=11)) == 1800


def test_what_is_free_or_has_no_price_sets_no_bound(tenant: Tenant) -> None:
    Price.objects.filter(meter=METER).update(amount=0)
    assert paid(tenant, "0.01") is None
    Price.objects.filter(meter=METER).delete()
    assert paid(tenant, "0.01") is None
    assert budgets.pays(tenant=tenant, budget=None, meter=METER, now=NOW) is None


def test_a_budget_in_another_currency_pays_for_nothing(tenant: Tenant) -> None:
    Plan.objects.filter(pk="standard").update(currency="USD")
    assert paid(Tenant.objects.select_related("plan").get(pk=tenant.pk), "100") == 0


@pytest.mark.parametrize(
    "amount", ["0", "-1", "NaN", "sNaN", "Infinity", "-Infinity", "1E+999", "0.005", "1000000000.01"]
)
def test_what_is_no_budget_is_refused_with_what_is_expected(tenant: Tenant, amount: str) -> None:
    with pytest.raises(Invalid, match=r"Expected from 0\.01 to 1000000000 EUR, in steps of 0\.01") as refused:
        budgets.checked(tenant=tenant, amount=Decimal(amount), meter=METER, least=Decimal(10), now=NOW)
    assert [error.field for error in refused.value.errors] == ["budget"]


def test_a_budget_for_less_than_the_least_is_refused_with_what_is_enough(tenant: Tenant) -> None:
    def ask(amount: str) -> Budget:
        return budgets.checked(tenant=tenant, amount=Decimal(amount), meter=METER, least=Decimal(100), now=NOW)

    with pytest.raises(Invalid, match=r"Expected 0\.03 EUR or more: 0\.02 EUR pays for less than 100 training seconds"):
        ask("0.02")
    assert str(ask("0.03")) == "0.03 EUR"
    assert str(ask("3")) == "3.00 EUR"


def test_a_quote_rounds_up_and_says_what_it_stands_on(tenant: Tenant) -> None:
    found = quotes.quote(
        tenant=tenant, meter=METER, most=Decimal(41), likely=Decimal(1), assumes=("Nothing else.",), now=NOW
    )
    assert (found.currency, found.at_most, found.expected) == ("EUR", Decimal("0.02"), Decimal("0.01"))
    assert found.assumes == (
        "Nothing else.", "The price of now, 0.9 EUR per training hour, holds until it is done."
    )  # fmt: skip
    Price.objects.filter(meter=METER).delete()
    free = quotes.quote(tenant=tenant, meter=METER, most=Decimal(41), likely=None, assumes=(), now=NOW)
    assert (free.price, free.at_most, free.expected) == (None, Decimal("0.00"), None)
    assert free.assumes == ("The plan Standard has no price for this.",)


@given(
    amount=st.decimals("0.01", 1000, places=2),
    price=st.decimals("0.0001", 100, places=6),
    per=st.decimals("0.5", 10**6, places=2),
    places=st.integers(0, 3),
)
def test_what_a_budget_pays_is_never_billed_higher_and_a_step_more_would_cost_more(
    amount: Decimal, price: Decimal, per: Decimal, places: int
) -> None:
    flat = PriceVersion(meter=METER, valid_from=date(2026, 1, 1), amount=price, per=per, unit="unit")
    quantity = pricing.affordable(flat, amount=amount, places=places)
    assert quantity is not None
    assert pricing.rounded(pricing.cost(flat, quantity=quantity, share=Fraction(1)), "EUR") <= amount
    assert quotes.cost(quantity=quantity, price=flat, currency="EUR") <= amount
    more = quantity + Decimal(1).scaleb(-places)
    assert quotes.cost(quantity=more, price=flat, currency="EUR") > amount
