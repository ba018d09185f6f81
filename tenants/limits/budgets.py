"""Budgets: the most that a piece of background work may cost, set by who asks for it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tenants import pricing
from tenants.errors import FieldError, Invalid
from tenants.models import Tenant
from tenants.pricing import quotes

MOST = Decimal(10**9)


@dataclass(frozen=True, slots=True)
class Budget:
    """Money, in the currency that the tenant's plan had when it was set."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


def checked(*, tenant: Tenant, amount: Decimal, meter: str, least: Decimal, now: datetime) -> Budget:
    """The budget, if it is money and pays for the least of the meter without which nothing can be done."""
    currency = tenant.plan.currency
    coin = _coin(currency)
    if not (amount.is_finite() and coin <= amount <= MOST and amount == amount.quantize(coin)):
        raise _refused(f"Expected from {coin} to {MOST} {currency}, in steps of {coin}; got {str(amount)[:40]}.")
    budget = Budget(amount.quantize(coin), currency)
    enough = quotes.cost(
        quantity=least, price=quotes.price_at(tenant=tenant, meter=meter, now=now), currency=currency
    )  # fmt: skip
    if budget.amount < enough:
        raise _refused(
            f"Expected {enough} {currency} or more: {budget} pays for less than {least} {meter.replace('_', ' ')}, "
            "the least that is needed."
        )
    return budget


def restored(*, amount: Decimal, currency: str) -> Budget:
    """The budget that a row holds, with as many decimals as its coins have."""
    return Budget(amount.quantize(_coin(currency)), currency)


def pays(*, tenant: Tenant, budget: Budget | None, meter: str, now: datetime, places: int = 0) -> Decimal | None:
    """How much of a meter a budget pays at the price of now, rounded down to so many places; none if it sets no bound.

    One in another currency than the tenant's plan has by now pays for nothing.
    """
    if budget is None:
        return None
    if budget.currency != tenant.plan.currency:
        return Decimal(0)
    price = quotes.price_at(tenant=tenant, meter=meter, now=now)
    return None if price is None else pricing.affordable(price, amount=budget.amount, places=places)


def _coin(currency: str) -> Decimal:
    return Decimal(1).scaleb(-pricing.DECIMALS.get(currency, pricing.DEFAULT_DECIMALS))


def _refused(expected: str) -> Invalid:
    return Invalid(f"budget: {expected}", errors=(FieldError("budget", expected),))
