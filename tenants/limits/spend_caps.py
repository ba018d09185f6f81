"""Spend caps: what a tenant's month may cost at most, a hard stop for predictions and for new jobs.

The cost so far is that of the month's usage and fees. What processes have leased of the tenant's month counts on top of
it at the dearest price, and no lease is granted beyond what the rest of the money buys at that price: so predictions
stop before the cap, whatever is under way (docs/decisions/0009-spend-caps.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tenants import audit, letters, notices, pricing
from tenants.errors import FieldError, Invalid, NotFound, OverQuota
from tenants.invoicing import billing, quantities
from tenants.models import Meter, SpendCap, Tenant
from tenants.pricing import Line, PriceVersion, plan_history

HIGHEST = Decimal(10**12)
THRESHOLDS = (80, 100)
# What a prediction costs at least as far as it is known before it runs: its rows, and its request.
KNOWN_METERS = (Meter.PREDICTIONS, Meter.REQUESTS)
MOST_PREDICTIONS = 10**15
NOTHING = (Decimal(0), Fraction(0))


@dataclass(frozen=True, slots=True)
class Headroom:
    """What a cap leaves: so many predictions more may be leased; none means that the rest costs nothing."""

    cap: Decimal
    cost: Decimal
    currency: str
    predictions: int | None

    @property
    def reached(self) -> bool:
        return self.cost >= self.cap


def put(*, tenant: Tenant, amount: Any, set_by: str, actor: str) -> SpendCap:
    """Sets what a month may cost, in the plan's currency; the lower of the two sides' caps holds."""
    amount = _checked(amount, tenant)
    row, _ = SpendCap.objects.for_tenant(tenant).update_or_create(
        tenant=tenant, set_by=set_by, defaults={"amount": amount}
    )
    audit.record(
        tenant=tenant, actor=actor, verb="spend_cap.put", subject=tenant.pk, amount=f"{amount:f}", set_by=set_by,
        currency=tenant.plan.currency,
    )  # fmt: skip
    return row


def remove(*, tenant: Tenant, set_by: str, actor: str) -> None:
    """Takes one side's cap away; the other side's stays."""
    removed, _ = SpendCap.objects.for_tenant(tenant).filter(set_by=set_by).delete()
    if not removed:
        raise NotFound(f"The {set_by} has set no spend cap.")
    audit.record(tenant=tenant, actor=actor, verb="spend_cap.remove", subject=tenant.pk, set_by=set_by)


def amounts(*, tenant: Tenant | str) -> dict[str, Decimal]:
    """The caps by the side that set them."""
    return dict(SpendCap.objects.for_tenant(tenant).values_list("set_by", "amount"))


def headroom(*, tenant_id: str, leased: int, now: datetime) -> Headroom | None:
    """What the cap leaves while so many predictions are leased; none without a cap. Tells of 80 and 100 %."""
    cap = min(amounts(tenant=tenant_id).values(), default=None)
    if cap is None:
        return None
    tenant = Tenant.objects.select_related("plan").get(pk=tenant_id)
    lines = _lines(tenant, now)
    cost = _cost(lines, tenant.plan.currency)
    _tell(tenant, cap, cost, now)
    return Headroom(
        cap=cap, cost=cost, currency=tenant.plan.currency, predictions=_room(tenant, cap - cost, lines, leased, now)
    )  # fmt: skip


def check(*, tenant: Tenant, now: datetime) -> None:
    """Refuses a new job when the month has cost what it may."""
    found = headroom(tenant_id=tenant.pk, leased=0, now=now)
    if found is not None and found.reached:
        raise reached(found, retry_after=(_month_end(now) - now).total_seconds())


def reached(found: Headroom, *, retry_after: float) -> OverQuota:
    """The refusal of who has spent what the cap allows."""
    return OverQuota(
        f"The spend cap is {_money(found.cap, found.currency)} a month, and this month has cost "
        f"{_money(found.cost, found.currency)} so far, what is under way not counted; the rest does not cover this "
        "request. Raise the cap, or wait for the next month.",
        retry_after=retry_after,
    )


def cost_so_far(*, tenant: Tenant, now: datetime) -> Decimal:
    """What the month has cost, its fees among it, or what that would be before rounding if it is more."""
    return _cost(_lines(tenant, now), tenant.plan.currency)


def _lines(tenant: Tenant, now: datetime) -> list[Line]:
    terms = plan_history.terms(tenants=[tenant], month=now.astimezone(UTC).date().replace(day=1))
    return pricing.rate(quantities=quantities.of(terms).get(tenant.pk, {}), terms=terms[tenant.pk])


def _cost(lines: Sequence[Line], currency: str) -> Decimal:
    exact = sum((_exact(line) for line in lines), Fraction(0))
    up = Decimal(-(-exact.numerator * 10**12 // exact.denominator)).scaleb(-12)
    return max(pricing.total([line.amount for line in lines], currency), up)


def _exact(line: Line) -> Fraction:
    return pricing.cost(line.price, quantity=line.quantity, share=Fraction(line.hours, line.month_hours))


def _room(tenant: Tenant, money: Decimal, lines: Sequence[Line], leased: int, now: datetime) -> int | None:
    """How many predictions more the money buys, those that are leased reckoned with; none where they cost nothing."""
    used = {line.price: (line.quantity, _exact(line)) for line in lines}
    by_meter = {meter: _held(tenant, meter, now) for meter in KNOWN_METERS}

    def adds(count: int) -> Fraction:
        total = Fraction(0)
        for prices in by_meter.values():
            total += max((_adds(price, *used.get(price, NOTHING), count) for price in prices), default=Fraction(0))
        return total

    if not adds(MOST_PREDICTIONS):
        return None if money > 0 else 0
    low, high = 0, MOST_PREDICTIONS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if adds(middle) <= money else (low, middle - 1)
    return max(0, low - leased)


def _adds(price: PriceVersion, used: Decimal, cost_of_used: Fraction, count: int) -> Fraction:
    return pricing.adds_at_most(price, used=used, cost_of_used=cost_of_used, quantity=Decimal(count))


def _held(tenant: Tenant, meter: str, now: datetime) -> list[PriceVersion]:
    """The plan's prices of a meter that hold at any time from now until the month's end."""
    today = now.astimezone(UTC).date()
    prices = sorted((one for one in billing.prices_of(tenant) if one.meter == meter), key=lambda one: one.valid_from)
    begun = [price for price in prices if price.valid_from <= today]
    return begun[-1:] + [price for price in prices if today < price.valid_from < pricing.month_after(today)]


def _tell(tenant: Tenant, cap: Decimal, cost: Decimal, now: datetime) -> None:
    for threshold in THRESHOLDS:
        if cost * 100 >= cap * threshold:
            new = notices.announce(
                tenant=tenant,
                kind="usage.threshold_reached",
                once=f"spend_cap:{now.astimezone(UTC):%Y-%m}:{threshold}",
                what="spend_cap",
                percent=threshold,
                limit=f"{cap.normalize():f}",
                used=f"{cost.normalize():f}",
                currency=tenant.plan.currency,
            )
            if new:
                letters.send_to_owners(
                    tenant_id=tenant.pk,
                    subject=f"{threshold} % of the spend cap is used",
                    text=f"This month has cost {_money(cost, tenant.plan.currency)} so far; the spend cap is "
                    f"{_money(cap, tenant.plan.currency)}. When it is reached, predictions and new jobs are refused "
                    "with status 429 until it is raised or the month ends.\n",
                )


def _checked(amount: Any, tenant: Tenant) -> Decimal:
    try:
        found = Decimal(str(amount))
    except ArithmeticError:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 < found <= HIGHEST or found != round(found, _decimals(tenant)):
        message = (
            f"Expected an amount in {tenant.plan.currency} above 0 and up to {HIGHEST:,}, "
            f"with at most {_decimals(tenant)} decimals."
        )
        raise Invalid(f"amount is {str(amount)[:60]!r}. {message}", errors=(FieldError("amount", message),))
    return found


def _decimals(tenant: Tenant) -> int:
    return pricing.DECIMALS.get(tenant.plan.currency, pricing.DEFAULT_DECIMALS)


def _money(amount: Decimal, currency: str) -> str:
    text = f"{amount.normalize():f}"
    whole, _, part = text.partition(".")
    return f"{whole}.{part.ljust(2, '0')} {currency}"


def _month_end(now: datetime) -> datetime:
    end = pricing.month_after(now.astimezone(UTC).date())
    return datetime(end.year, end.month, end.day, tzinfo=UTC)
