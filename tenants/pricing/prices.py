"""Prices: a version of one is added from a day on; what has been billed by is never edited."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from tenants import pricing
from tenants.errors import Conflict, FieldError, Invalid
from tenants.invoicing import billing
from tenants.models import TIERED, Meter, Plan, Price, PriceModel
from tenants.pricing.tiers import MOST_MONEY, MOST_UNITS, number_in, written_tiers

FIELDS = ("meter", "model", "amount", "per", "unit", "included", "minimum", "tiers")
UNIT_LENGTH = 40


def add(*, plan: Plan, currency: str, valid_from: date, now: datetime, **written: Any) -> Price:
    """Adds a version of a price: `meter` (none for a fee), `model`, `amount`, `per`, `unit`, `included`, `minimum`,
    `tiers`. The currency is the plan's: it is asked for so that nobody means another one.
    """
    if currency != plan.currency:
        raise _invalid("currency", f"The prices of {plan.pk} are in {plan.currency}, and a plan's prices are never "
                                   f"mixed: expected {plan.currency}, got {currency!r:.40}.")  # fmt: skip
    if billing.is_in_use(plan=plan, valid_from=valid_from, now=now):
        raise Conflict(f"{plan.pk} has been billed by: expected a day after today, {now:%Y-%m-%d}; got {valid_from}.")
    values = read(written)
    try:
        with transaction.atomic():
            return Price.objects.create(plan=plan, valid_from=valid_from, **values)
    except IntegrityError as error:
        raise Conflict(
            f"{plan.pk} has a price of {values['meter'] or 'the month'} from {valid_from} already."
        ) from error


def read(written: Mapping[str, Any]) -> dict[str, Any]:
    """A price as it was written, held to what prices are; a refusal names the field and what was expected."""
    unknown = sorted(set(written) - set(FIELDS))
    if unknown:
        raise _invalid(unknown[0], f"There is no such field of a price; expected some of {', '.join(FIELDS)}.")
    model, meter = written.get("model") or PriceModel.PER_UNIT, written.get("meter") or ""
    if model not in PriceModel.values:
        raise _invalid("model", f"Expected one of {', '.join(PriceModel.values)}; got {model!r:.40}.")
    if meter not in Meter.values and not (model == PriceModel.FLAT and meter == ""):
        raise _invalid("meter", f"Expected one of {', '.join(Meter.values)}; got {meter!r:.40}.")
    if model == PriceModel.FLAT and meter:
        raise _invalid("meter", f"A flat price is a fee of the plan, whatever is used: expected none; got {meter!r}.")
    unit = str(written.get("unit") or "")
    if not 1 <= len(unit) <= UNIT_LENGTH:
        raise _invalid(
            "unit", f"Expected 1 to {UNIT_LENGTH} characters that say what the price is for; got {len(unit)}."
        )
    numbers = {
        "amount": _number(written, "amount", MOST_MONEY),
        "per": _number(written, "per", MOST_UNITS, default=Decimal(1)),
        "included": _number(written, "included", MOST_UNITS),
        "minimum": _number(written, "minimum", MOST_MONEY),
    }
    if model == PriceModel.FLAT and (numbers["included"] or numbers["minimum"]):
        raise _invalid("included", "A flat price has no allowance and no minimum: expected 0 of both.")
    return {"meter": meter, "model": model, "unit": unit, "tiers": _tiers(written, model), **numbers}


def _tiers(written: Mapping[str, Any], model: str) -> list[dict[str, str | None]]:
    tiers = pricing.read_tiers(written.get("tiers") or [])
    if bool(tiers) != (model in TIERED):
        expected = "at least one tier" if model in TIERED else f"none, for the model is {model}"
        raise _invalid("tiers", f"Expected {expected}; got {len(tiers)}.")
    return written_tiers(tiers)


def _number(written: Mapping[str, Any], name: str, most: Decimal, default: Decimal = Decimal(0)) -> Decimal:
    value = written.get(name)
    return default if value is None else number_in(value, most=most, what=name, above_zero=name == "per")


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=(FieldError(field, message),))
