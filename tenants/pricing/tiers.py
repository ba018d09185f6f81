"""Tiers: each begins where the one before ends, so that none can overlap another or leave a gap, and the last is open.

They are written as `[{"up_to": "1000", "amount": "0.50"}, {"up_to": null, "amount": "0.40"}]`; a tier may say `from`,
too, and is then held to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from tenants.errors import FieldError, Invalid

MOST_TIERS = 100
MOST_MONEY = Decimal(10) ** 12
MOST_UNITS = Decimal(10) ** 18
FIELDS = ("from", "up_to", "amount")


@dataclass(frozen=True, slots=True)
class Tier:
    """The price of the units above the tier before and up to a bound, which is in it; an open tier has no bound."""

    up_to: Decimal | None
    amount: Decimal


def read_tiers(written: Any) -> tuple[Tier, ...]:
    """The tiers as they were written, or a refusal that names the tier and what was expected."""
    if not isinstance(written, Sequence) or isinstance(written, str) or len(written) > MOST_TIERS:
        raise _invalid(f"Expected a list of at most {MOST_TIERS} tiers.")
    found: list[Tier] = []
    for number, tier in enumerate(written, 1):
        found.append(_read(tier, number, found[-1] if found else Tier(Decimal(0), Decimal(0))))
    if found and found[-1].up_to is not None:
        raise _invalid(f"Expected null for where the last tier ends, so that every quantity has a price; "
                       f"got {found[-1].up_to:f}.")  # fmt: skip
    return tuple(found)


def written_tiers(tiers: Sequence[Tier]) -> list[dict[str, str | None]]:
    """The tiers as they are stored."""
    return [
        {"up_to": None if tier.up_to is None else f"{tier.up_to:f}", "amount": f"{tier.amount:f}"} for tier in tiers
    ]


def number_in(value: Any, *, most: Decimal, what: str, above_zero: bool = False, field: str = "") -> Decimal:
    """A finite number from 0, or above it, to a limit, of at most 12 decimals: what a price may be made of."""
    field = field or what
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
            raise InvalidOperation
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise _invalid(f"{what}: expected a decimal number, got {value!r:.60}.", field) from error
    floor = "above 0" if above_zero else "from 0"
    if not number.is_finite() or number < 0 or (above_zero and not number) or number > most:
        raise _invalid(f"{what}: expected a number {floor} to {most:,f}, got {value!r:.60}.", field)
    exponent = int(number.as_tuple().exponent)
    if exponent < -100 or (exponent < -12 and (Fraction(number) * 10**12).denominator != 1):
        raise _invalid(f"{what}: expected at most 12 decimals, got {value!r:.60}.", field)
    return number


def _read(tier: Any, number: int, before: Tier) -> Tier:
    if not isinstance(tier, Mapping) or not {"up_to", "amount"} <= tier.keys() <= set(FIELDS):
        raise _invalid(f"tier {number}: expected `up_to` and `amount` (and `from`, if you like), got {tier!r:.60}.")
    floor = before.up_to
    if floor is None:
        raise _invalid(f"tier {number}: nothing can follow tier {number - 1}, which has no end; they would overlap.")
    if tier.get("from") is not None:
        begins = number_in(tier["from"], most=MOST_UNITS, what=f"tier {number}, `from`", field="tiers")
        if begins != floor:
            wrong = "overlaps the one before" if begins < floor else "leaves a gap"
            raise _invalid(f"tier {number} begins at {begins:f} and {wrong}: expected {floor:f}.")
    amount = number_in(tier["amount"], most=MOST_MONEY, what=f"tier {number}, `amount`", field="tiers")
    if tier["up_to"] is None:
        return Tier(None, amount)
    up_to = number_in(tier["up_to"], most=MOST_UNITS, what=f"tier {number}, `up_to`", field="tiers")
    if up_to <= floor:
        raise _invalid(f"tier {number} ends at {up_to:f}, so it would overlap what ends at {floor:f}: expected more.")
    return Tier(up_to, amount)


def _invalid(message: str, field: str = "tiers") -> Invalid:
    return Invalid(message, errors=(FieldError(field, message),))
