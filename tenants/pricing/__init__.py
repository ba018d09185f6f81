"""Prices times quantities: pure, in exact arithmetic, rounded once for each line of an invoice, half to even.

Only `prices`, `plan_history` and `quotes` beside it know the database: which terms hold for whom, and from when.
"""

from tenants.pricing.money import DECIMALS, DEFAULT_DECIMALS, in_coins, rounded, total
from tenants.pricing.months import hours_between, midnight, month_after, month_end, month_of, month_start, next_hour
from tenants.pricing.rating import Line, Rating, rate
from tenants.pricing.terms import PlanSpan, Terms, frozen, thawed
from tenants.pricing.tiers import Tier, read_tiers
from tenants.pricing.versions import PriceVersion, adds_at_most, affordable, at_most, cost

__all__ = [
    "DECIMALS",
    "DEFAULT_DECIMALS",
    "Line",
    "PlanSpan",
    "PriceVersion",
    "Rating",
    "Terms",
    "Tier",
    "adds_at_most",
    "affordable",
    "at_most",
    "cost",
    "frozen",
    "hours_between",
    "in_coins",
    "midnight",
    "month_after",
    "month_end",
    "month_of",
    "month_start",
    "next_hour",
    "rate",
    "read_tiers",
    "rounded",
    "thawed",
    "total",
]
