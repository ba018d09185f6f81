"""Rating: each hour by the price that held in it, each line rounded once, whatever the model."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenants import pricing
from tenants.errors import Invalid
from tenants.pricing import Line, PlanSpan, PriceVersion, Terms, Tier
from tenants.pricing.money import Product
from tests.crash import naive_rating

MONTH = date(2026, 11, 1)
START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
HOURS = 720
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def a_price(amount: str = "1", **values: Any) -> PriceVersion:
    known: dict[str, Any] = {
        "meter": "predictions", "valid_from": date(2026, 1, 1), "amount": Decimal(amount), "per": Decimal(1),
        "unit": "unit", "plan": "gold",
    }  # fmt: skip
    return PriceVersion(**(known | values))


def tiers(*written: tuple[str | None, str]) -> tuple[Tier, ...]:
    return tuple(Tier(None if up_to is None else Decimal(up_to), Decimal(amount)) for up_to, amount in written)


def rated(
    used: dict[Any, Any], *prices: PriceVersion, plans: Any = None, since: datetime = LONG_AGO, currency: str = "EUR"
) -> list[Line]:
    """Quantities by hours after the month's start, or by meter and hour."""
    quantities = {
        key if isinstance(key, tuple) else ("predictions", START + timedelta(hours=key)): Decimal(quantity)
        for key, quantity in used.items()
    }
    terms = Terms(MONTH, currency, since, plans or (PlanSpan("gold", START, END),), prices)
    return pricing.rate(quantities=quantities, terms=terms)


def amounts(*arguments: Any, **options: Any) -> list[str]:
    return [str(line.amount) for line in rated(*arguments, **options)]


GRADUATED = a_price(model="graduated", tiers=tiers(("1000", "0.5"), ("5000", "0.4"), (None, "0.1")))
VOLUME = a_price(model="volume", tiers=tiers(("1000", "0.5"), ("5000", "0.4"), (None, "0.1")))


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        (a_price("9.90", model="flat", meter=""), 0, "9.90"),
        (a_price("0.125"), 1, "0.12"),  # half a cent goes to the even one
        (a_price("0.125"), 3, "0.38"),
        (a_price("0.5", per=Decimal(1000)), 12_345, "6.17"),
        (a_price("0.5", included=Decimal(100)), 99, "0.00"),
        (a_price("0.5", included=Decimal(100)), 101, "0.50"),
        (a_price("0.5", minimum=Decimal(20)), 39, "20.00"),
        (a_price("0.5", minimum=Decimal(20)), 41, "20.50"),
        (a_price("0.5", minimum=Decimal(20)), 0, "20.00"),
        (a_price("3", model="package", per=Decimal(1000)), 1, "3.00"),
        (a_price("3", model="package", per=Decimal(1000)), 1000, "3.00"),
        (a_price("3", model="package", per=Decimal(1000)), 1001, "6.00"),
        (a_price("3", model="package", per=Decimal(1000), included=Decimal(1000)), 1001, "3.00"),
        (GRADUATED, 1000, "500.00"),
        (GRADUATED, 1001, "500.40"),
        (GRADUATED, 6000, "2200.00"),
        (VOLUME, 1000, "500.00"),
        (VOLUME, 1001, "400.40"),
        (VOLUME, 6000, "600.00"),
    ],
)
def test_what_each_model_makes_of_a_quantity(price: PriceVersion, quantity: int, amount: str) -> None:
    assert amounts({5: quantity}, price) == [amount]


@pytest.mark.parametrize(("currency", "amount"), [("JPY", "2"), ("KWD", "2.345"), ("EUR", "2.34")])
def test_a_line_is_rounded_to_the_smallest_coin(currency: str, amount: str) -> None:
    assert amounts({0: 1}, a_price("2.345"), currency=currency) == [amount]


def test_just_above_half_a_cent_is_rounded_up_however_many_digits_it_takes() -> None:
    quantity = Decimal("1.000000000000000000000000000000000001")
    assert amounts({0: quantity}, a_price("0.005")) == ["0.01"]


@given(
    quantity=st.decimals(0, 10**18, places=12),
    amount=st.decimals(0, 10**12, places=12),
    per=st.decimals("0.000000000001", 10**18, places=12),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
)
@example(Decimal("0.5"), Decimal("0.01"), Decimal(1), "EUR")  # half a coin goes to the even one: down
@example(Decimal("1.5"), Decimal("0.01"), Decimal(1), "EUR")  # and up
def test_the_quick_product_is_rounded_as_the_exact_one(
    quantity: Decimal, amount: Decimal, per: Decimal, currency: str
) -> None:
    each = Fraction(amount) / Fraction(per)
    quick = Product(each, currency).rounded(quantity)
    assert str(quick) == str(pricing.rounded(Fraction(quantity) * each, currency))


def test_a_price_that_changes_in_mid_month_has_a_line_of_its_own() -> None:
    used = {24 * day: 100 for day in range(30)}
    lines = rated(used, a_price("2", valid_from=date(2026, 11, 16)), a_price("1"))
    assert [(str(line.quantity), str(line.amount), line.hours) for line in lines] == [
        ("1500", "1500.00", 360),
        ("1500", "3000.00", 360),
    ]


def test_usage_is_rated_by_the_plan_that_held_in_its_hour_and_the_rest_by_share_of_the_hours() -> None:
    """The worked example of docs/billing.md."""
    change = datetime(2026, 11, 11, tzinfo=UTC)
    plans = (PlanSpan("basic", START, change), PlanSpan("pro", change, END))
    lines = rated(
        {100: 4000, 239: 1000, 240: 30_000},
        a_price("12", plan="basic", model="flat", meter=""),
        a_price("60", plan="pro", model="flat", meter=""),
        a_price("2", plan="basic", per=Decimal(1000), included=Decimal(3000)),
        a_price("1", plan="pro", per=Decimal(1000), included=Decimal(9000)),
        plans=plans,
    )
    assert [(line.price.plan, line.price.meter, line.hours, str(line.amount)) for line in lines] == [
        ("basic", "", 240, "4.00"),  # 12 * 240/720
        ("pro", "", 480, "40.00"),  # 60 * 480/720
        ("basic", "predictions", 240, "8.00"),  # (5,000 - 1,000) * 2/1,000
        ("pro", "predictions", 480, "24.00"),  # (30,000 - 6,000) * 1/1,000
    ]


def test_a_plan_that_a_tenant_returns_to_has_one_line_for_all_its_hours() -> None:
    hour = [START + timedelta(hours=n) for n in range(HOURS)]
    plans = (PlanSpan("gold", START, hour[10]), PlanSpan("tin", hour[10], hour[20]), PlanSpan("gold", hour[20], END))
    lines = rated({5: 1, 15: 100, 25: 1}, a_price("3", model="package", per=Decimal(1000)), plans=plans)
    assert [(str(line.quantity), str(line.amount), line.hours) for line in lines] == [("2", "3.00", 710)]


def test_an_account_opened_in_mid_month_pays_a_share_of_the_fee() -> None:
    since = START + timedelta(days=20)
    assert amounts({}, a_price("30", model="flat", meter=""), since=since) == ["10.00"]


def test_what_was_used_before_any_price_held_is_free() -> None:
    assert not rated({24 * 8: 5}, a_price("1", valid_from=date(2026, 11, 10)))


# A second, naive rating

MODELS = ("per_unit", "graduated", "volume", "package")
money = st.decimals(0, 1000, places=4)
units = st.decimals(0, 10**6, places=2)


@st.composite
def some_tiers(draw: st.DrawFn) -> list[tuple[Decimal | None, Decimal]]:
    bounds = sorted(set(draw(st.lists(st.decimals(1, 10**5, places=1), max_size=3))))
    return [(bound, draw(money)) for bound in [*bounds, None]]


@st.composite
def a_plan(draw: st.DrawFn, plan: str) -> list[dict[str, Any]]:
    found = []
    meter_and_day = st.tuples(
        st.sampled_from(["", "predictions", "training_seconds"]), st.dates(date(2026, 10, 20), date(2026, 12, 5))
    )
    names = draw(st.lists(meter_and_day, max_size=4, unique=True))
    for meter, valid_from in names:
        model = draw(st.sampled_from(MODELS)) if meter else "flat"
        found.append({
            "plan": plan, "meter": meter, "valid_from": valid_from, "model": model, "amount": draw(money),
            "per": draw(st.sampled_from([Decimal(1), Decimal(1000), Decimal(3600), Decimal("0.3")])),
            "included": draw(units) if meter else Decimal(0), "minimum": draw(money) if meter else Decimal(0),
            "tiers": draw(some_tiers()) if model in ("graduated", "volume") else [],
        })  # fmt: skip
    return found


moments = st.datetimes(datetime(2026, 10, 30), datetime(2026, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001
hours = st.integers(0, HOURS - 1).map(lambda number: START + timedelta(hours=number))


@settings(max_examples=1000, deadline=None)
@given(
    prices=st.tuples(a_plan("basic"), a_plan("pro"), a_plan("tin")),
    changes=st.lists(st.tuples(moments, st.sampled_from(["basic", "pro", "tin"])), max_size=8),
    used=st.dictionaries(
        st.tuples(st.sampled_from(["predictions", "training_seconds", "requests"]), hours), units, max_size=12
    ),
    opened=st.just(LONG_AGO) | moments,
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_a_thousand_random_plan_changes_agree_with_the_naive_rating(
    prices: tuple[list[dict[str, Any]], ...],
    changes: list[tuple[datetime, str]],
    used: dict[tuple[str, datetime], Decimal],
    opened: datetime,
    currency: str,
) -> None:
    changes = sorted(changes, key=lambda change: change[0])
    flat = [price for plan in prices for price in plan]
    expected = naive_rating.rate_naively(
        month=MONTH, used=used, changes=changes, first_plan="basic", prices=flat, opened=opened,
        decimals=pricing.DECIMALS.get(currency, 2),
    )  # fmt: skip
    terms = Terms(MONTH, currency, opened.replace(minute=0, second=0, microsecond=0), spans(changes), versions(flat))
    lines = pricing.rate(quantities=used, terms=terms)
    assert {(line.price.plan, line.price.meter, line.price.valid_from): line.amount for line in lines} == expected
    assert pricing.thawed(pricing.frozen(terms)) == terms
    summed = {("predictions", hour): quantity for hour, quantity in by_bound(used, terms).items()}
    assert [line for line in pricing.rate(quantities=summed, terms=terms) if line.price.meter == "predictions"] == [
        line for line in lines if line.price.meter == "predictions"
    ]


def spans(changes: list[tuple[datetime, str]]) -> tuple[PlanSpan, ...]:
    """As the plan history makes them, here from the changes themselves."""
    found, plan, start = [], "basic", START
    for moment, code in changes:
        holds_from = pricing.next_hour(moment)
        if start < holds_from < END:
            found.append(PlanSpan(plan, start, holds_from))
            start = holds_from
        if holds_from < END:
            plan = code
    return (*found, PlanSpan(plan, start, END))


def versions(prices: list[dict[str, Any]]) -> tuple[PriceVersion, ...]:
    return tuple(
        PriceVersion(**{**price, "unit": "unit", "tiers": tuple(Tier(*tier) for tier in price["tiers"])})
        for price in prices
    )


def by_bound(used: dict[tuple[str, datetime], Decimal], terms: Terms) -> dict[datetime, Decimal]:
    """The predictions summed as the database does it: from one bound to the next."""
    found: dict[datetime, Decimal] = {}
    for (meter, hour), quantity in used.items():
        if meter == "predictions":
            bound = max(each for each in [START, *terms.bounds()] if each <= hour)
            found[bound] = found.get(bound, Decimal(0)) + quantity
    return found


def test_a_share_of_an_allowance_is_exact() -> None:
    """A third of 1,000 is no decimal number; the cost of what lies above it is, once it is rounded."""
    price = a_price("0.03", included=Decimal(1000))
    assert pricing.cost(price, quantity=Decimal(334), share=Fraction(1, 3)) == Fraction(2, 3) * Fraction(3, 100)


@settings(max_examples=300, deadline=None)
@given(plan=a_plan("basic"), before=units, quantity=units)
def test_a_quantity_adds_no_more_than_was_said(plan: list[dict[str, Any]], before: Decimal, quantity: Decimal) -> None:
    for price in versions([price for price in plan if price["model"] != "volume"]):
        more = pricing.cost(price, quantity=before + quantity, share=Fraction(1, 2))
        assert more - pricing.cost(price, quantity=before, share=Fraction(1, 2)) <= pricing.at_most(
            price, quantity=quantity
        )


def test_by_volume_a_quantity_is_as_dear_as_the_dearest_tier() -> None:
    assert pricing.at_most(VOLUME, quantity=Decimal(10)) == 5


# Tiers

OPEN = {"up_to": None, "amount": "1"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("no list", "list"),
        ([{"up_to": "10", "amount": "1"}], "last tier"),
        ([{"up_to": "10", "amount": "1"}, {"up_to": "10", "amount": "1"}, OPEN], "overlap"),
        ([{"up_to": "10", "amount": "1"}, {"up_to": "5", "amount": "1"}, OPEN], "overlap"),
        ([OPEN, {"up_to": "5", "amount": "1"}], "nothing can follow"),
        ([{"up_to": "10", "amount": "1"}, {"from": "5", "up_to": None, "amount": "1"}], "overlaps the one before"),
        ([{"up_to": "10", "amount": "1"}, {"from": "15", "up_to": None, "amount": "1"}], "leaves a gap"),
        ([{"from": "1", "up_to": None, "amount": "1"}], "leaves a gap"),
        ([{"up_to": "0", "amount": "1"}, OPEN], "overlap"),
        ([{"up_to": "-5", "amount": "1"}, OPEN], "from 0"),
        ([{"up_to": None, "amount": "-1"}], "from 0"),
        ([{"up_to": None, "amount": "NaN"}], "from 0"),
        ([{"up_to": None, "amount": "Infinity"}], "from 0"),
        ([{"up_to": None, "amount": "1e13"}], "from 0"),
        ([{"up_to": None, "amount": float("nan")}], "from 0"),
        ([{"up_to": None, "amount": "1e-13"}], "12 decimals"),
        ([{"up_to": None, "amount": "1e-999999"}], "12 decimals"),
        ([{"up_to": None, "amount": "a lot"}], "decimal number"),
        ([{"up_to": None, "amount": True}], "decimal number"),
        ([{"up_to": None, "amount": None}], "decimal number"),
        ([{"amount": "1"}], "up_to"),
        ([{"up_to": None, "amount": "1", "colour": "red"}], "up_to"),
        (["x"], "up_to"),
        ([OPEN] * 101, "at most 100"),
    ],
)
def test_tiers_that_do_not_hold_are_refused_with_words(written: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        pricing.read_tiers(written)


def test_tiers_that_hold() -> None:
    written = [{"from": 0, "up_to": "10.5", "amount": "1"}, {"from": "10.50", "up_to": None, "amount": 0.25}]
    assert pricing.read_tiers(written) == tiers(("10.5", "1"), (None, "0.25"))


@pytest.mark.parametrize("text", ["2026-1", "2026-13", "2026-00", "26-11", "2026-11-01", "٢٠٢٦-11", "0000-01", "", "x"])
def test_what_is_no_month(text: str) -> None:
    assert pricing.month_of(text) is None


@given(plan=st.lists(st.integers(1, 60), min_size=0, max_size=3), used=st.integers(0, 200), more=st.integers(0, 200))
@example(plan=[100], used=99, more=2)
def test_what_is_used_more_adds_no_more_than_was_said_whatever_tier_it_reaches(
    plan: list[int], used: int, more: int
) -> None:
    """By volume, all that was used moves into the tier that is reached."""
    bounds = [str(up_to) for up_to in sorted(set(plan))]
    written = zip([*bounds, None], ("0.9", "0.2", "1.7", "0.4"), strict=False)
    price = a_price(model="volume", tiers=tiers(*written), included=Decimal(3))
    for share in (Fraction(1), Fraction(1, 3)):
        before = pricing.cost(price, quantity=Decimal(used), share=share)
        after = pricing.cost(price, quantity=Decimal(used + more), share=share)
        said = pricing.adds_at_most(price, used=Decimal(used), cost_of_used=before, quantity=Decimal(more))
        assert after - before <= said


@pytest.mark.parametrize(
    ("model", "amount", "quantity"),
    [("per_unit", "10", "3333"), ("package", "10", "3000"), ("flat", "10", None), ("per_unit", "0", None)],
)
def test_what_an_amount_pays_for(model: str, amount: str, quantity: str | None) -> None:
    """Three euros for a thousand: of packages, only whole ones."""
    price = a_price(model=model, amount="3" if amount != "0" else "0", per=Decimal(1000))
    found = pricing.affordable(price, amount=Decimal("10"), places=0)
    assert found == (None if quantity is None else Decimal(quantity))
