"""Money: amounts in the smallest coin of their currency."""

from collections.abc import Iterable
from decimal import Context, Decimal
from fractions import Fraction

EXACT = Context(prec=76)
DEFAULT_DECIMALS = 2
DECIMALS = {"BHD": 3, "CLP": 0, "ISK": 0, "JOD": 3, "JPY": 0, "KRW": 0, "KWD": 3, "OMR": 3, "TND": 3, "VND": 0}


def rounded(exact: Fraction, currency: str) -> Decimal:
    """The amount at the smallest coin of the currency; half a coin goes to the even one."""
    decimals = DECIMALS.get(currency, DEFAULT_DECIMALS)
    return Decimal(round(exact * 10**decimals)).scaleb(-decimals, EXACT)


def rounded_product(quantity: Decimal, each: Fraction, currency: str) -> Decimal:
    """`rounded(Fraction(quantity) * each, currency)` in a fifth of its time: reports work out 100,000 of them."""
    decimals = DECIMALS.get(currency, DEFAULT_DECIMALS)
    units, parts = quantity.as_integer_ratio()
    parts *= each.denominator
    coins, rest = divmod(units * each.numerator * 10**decimals, parts)
    if 2 * rest > parts or (2 * rest == parts and coins % 2):
        coins += 1
    return Decimal(coins).scaleb(-decimals, EXACT)


def total(amounts: Iterable[Decimal], currency: str) -> Decimal:
    """The sum of amounts, with the currency's decimals even where there are none."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return in_coins(result, currency)


def in_coins(amount: Decimal, currency: str) -> Decimal:
    """An amount of whole coins, written with the currency's decimals."""
    return amount.quantize(Decimal(1).scaleb(-DECIMALS.get(currency, DEFAULT_DECIMALS)), context=EXACT)
