"""Rating: each day by the price that held on it, each line rounded once."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import pricing
from tenants.pricing import FlatPrice

START, END = date(2026, 11, 1), date(2026, 12, 1)
days = st.dates(date(2026, 10, 1), date(2026, 12, 31))
quantities = st.decimals(0, 10**15, places=6) | st.integers(0, 10**12).map(Decimal)
prices = st.builds(
    FlatPrice,
    meter=st.sampled_from(["predictions", "training_seconds"]),
    valid_from=days,
    amount=st.decimals(0, 1000, places=6),
    per=st.sampled_from([Decimal(1), Decimal(3), Decimal(1000), Decimal(3600), Decimal(10**9)]),
    unit=st.just("unit"),
)


def a_price(amount: str, *, per: str = "1", since: date = START, meter: str = "predictions") -> FlatPrice:
    return FlatPrice(meter=meter, valid_from=since, amount=Decimal(amount), per=Decimal(per), unit="unit")


@given(
    used=st.dictionaries(st.tuples(st.sampled_from(["predictions", "training_seconds", "requests"]), days), quantities),
    prices=st.lists(prices, max_size=6, unique_by=lambda price: (price.meter, price.valid_from)),
)
def test_rating_agrees_with_pricing_each_day_alone(
    used: dict[tuple[str, date], Decimal], prices: list[FlatPrice]
) -> None:
    lines = pricing.rate(quantities=used, prices=prices, start=START, end=END, currency="EUR")
    expected: dict[FlatPrice, Fraction] = {}
    day = START
    while day < END:
        for meter in ("predictions", "training_seconds"):
            holding = [price for price in prices if price.meter == meter and price.valid_from <= day]
            if holding and used.get((meter, day)):
                price = max(holding, key=lambda each: each.valid_from)
                cost = Fraction(used[meter, day]) * Fraction(price.amount) / Fraction(price.per)
                expected[price] = expected.get(price, Fraction(0)) + cost
        day += timedelta(days=1)
    assert {line.price for line in lines} == set(expected)
    for line in lines:
        assert abs(Fraction(line.amount) - expected[line.price]) <= Fraction(1, 200)
        assert line.amount.as_tuple().exponent == -2
    assert pricing.total(lines=lines, currency="EUR") == sum((line.amount for line in lines), Decimal("0.00"))


@pytest.mark.parametrize(
    ("quantity", "currency", "amount"),
    [("1", "EUR", "0.12"), ("3", "EUR", "0.38"), ("5", "EUR", "0.62"), ("4", "JPY", "0"), ("5", "KWD", "0.625")],
)
def test_half_a_cent_goes_to_the_even_one(quantity: str, currency: str, amount: str) -> None:
    got = pricing.amount_of(quantity=Decimal(quantity), price=a_price("0.125"), currency=currency)
    assert str(got) == amount


def test_just_above_half_a_cent_is_rounded_up_however_many_digits_it_takes() -> None:
    price = a_price("0.005")
    quantity = Decimal("1.000000000000000000000000000000000001")
    assert pricing.amount_of(quantity=quantity, price=price, currency="EUR") == Decimal("0.01")


def test_a_price_that_changes_in_mid_month_has_a_line_of_its_own() -> None:
    change = date(2026, 11, 16)
    used = {("predictions", START + timedelta(days=n)): Decimal(100) for n in range(30)}
    lines = pricing.rate(
        quantities=used, prices=[a_price("2", since=change), a_price("1", since=date(2026, 1, 1))],
        start=START, end=END, currency="EUR",
    )  # fmt: skip
    assert [(line.start, line.end, line.quantity, line.amount) for line in lines] == [
        (START, change, Decimal(1500), Decimal(1500)),
        (change, END, Decimal(1500), Decimal(3000)),
    ]


def test_what_was_used_before_any_price_held_is_free() -> None:
    later = a_price("1", since=date(2026, 11, 10))
    used = {("predictions", date(2026, 11, 9)): Decimal(5)}
    assert not pricing.rate(quantities=used, prices=[later], start=START, end=END, currency="EUR")


@pytest.mark.parametrize(
    "text", ["2026-1", "2026-13", "2026-00", "26-11", "2026-11-01", "\u0662\u0660\u0662\u0666-11", "0000-01", "", "x"]
)
def test_what_is_no_month(text: str) -> None:
    assert pricing.month_of(text) is None
