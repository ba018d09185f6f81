"""Which plan a tenant had from when, and so the terms that each of its months is billed by."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Protocol

from tenants import pricing, scoping
from tenants.errors import Conflict
from tenants.models import ClosedMonth, CreditEntry, Invoice, Plan, PlanChange, Price, Tenant, UsageHour
from tenants.pricing import PlanSpan, PriceVersion, Terms

# The plan changes of more accounts than these are found among all.
MANY = 1000


class Account(Protocol):
    """What of a tenant its terms depend on."""

    @property
    def pk(self) -> str: ...
    @property
    def plan_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


def add(*, tenant: Tenant, after: Plan, actor: str, now: datetime) -> PlanChange | None:
    """Notes that a tenant, whose row the caller has locked, moves to another plan.

    Bills count it from the next full hour: what was used in an hour is billed by the plan with which the hour began.
    """
    if after.currency != tenant.plan.currency:
        _refuse_unless_new(tenant, after, now)
        return None  # so the new plan is the one that it has had all along
    last = PlanChange.objects.for_tenant(tenant).order_by("number").last()
    holds_from = pricing.next_hour(now)
    if last is not None and holds_from < last.holds_from:
        raise Conflict(f"{tenant.name} changes its plan at {last.holds_from:%Y-%m-%d %H:%M} already; "
                       f"expected a later time, got {now:%Y-%m-%d %H:%M}.")  # fmt: skip
    if ClosedMonth.objects.for_tenant(tenant).filter(month=holds_from.date().replace(day=1)).exists():
        raise Conflict(f"{holds_from:%Y-%m} of {tenant.name} is closed: a plan cannot begin in it any more.")
    return PlanChange.objects.create(
        tenant=tenant, number=last.number + 1 if last else 1, before=tenant.plan, after=after, at=now,
        holds_from=holds_from, actor=actor,
    )  # fmt: skip


def terms(*, tenants: Sequence[Account], month: date) -> dict[str, Terms]:
    """What a month of each tenant is rated by, in three queries for all of them."""
    changes: dict[str, list[PlanChange]] = {}
    owned = PlanChange.across_tenants.all()
    if len(tenants) <= MANY:
        owned = owned.filter(tenant__in=[tenant.pk for tenant in tenants])
    for change in owned.order_by("number"):
        changes.setdefault(change.tenant_id, []).append(change)
    unchanged: dict[str, tuple[PlanSpan, ...]] = {}
    spans = {}
    for tenant in tenants:
        own = changes.get(tenant.pk)
        if own is None and tenant.plan_id not in unchanged:
            unchanged[tenant.plan_id] = tuple(_spans(tenant, (), month))
        spans[tenant.pk] = unchanged[tenant.plan_id] if own is None else tuple(_spans(tenant, own, month))
    return _terms_of(tenants, spans, month)


def had(plan: Plan) -> bool:
    """Whether any tenant has this plan, or had it once; looked up among all of them, whoever asks."""
    with scoping.operator():
        has = Tenant.objects.filter(plan=plan).exists()
        return has or PlanChange.across_tenants.filter(before=plan).exists()  # what it moved to, it has or has left


def version_of(price: Price) -> PriceVersion:
    """A price as it is rated by."""
    return PriceVersion(
        id=price.pk,
        plan=price.plan_id,
        meter=price.meter,
        valid_from=price.valid_from,
        model=price.model,
        amount=price.amount,
        per=price.per,
        unit=price.unit,
        included=price.included,
        minimum=price.minimum,
        tiers=pricing.read_tiers(price.tiers),
    )


def _terms_of(tenants: Sequence[Account], spans: Mapping[str, tuple[PlanSpan, ...]], month: date) -> dict[str, Terms]:
    """The terms of tenants that had these plans; those whose terms are alike share them."""
    codes = {span.plan for found in set(spans.values()) for span in found}
    prices = _prices(codes)
    currencies = dict(Plan.objects.filter(pk__in=codes).values_list("pk", "currency"))
    made: dict[tuple[tuple[PlanSpan, ...], datetime], Terms] = {}
    found = {}
    for tenant in tenants:
        plans, since = spans[tenant.pk], _first_hour(tenant)
        terms = made.get((plans, since))
        if terms is None:
            terms = made[plans, since] = Terms(
                month=month,
                currency=currencies[plans[-1].plan],
                since=since,
                plans=plans,
                prices=tuple(price for code in sorted({span.plan for span in plans}) for price in prices.get(code, ())),
            )
        found[tenant.pk] = terms
    return found


def _refuse_unless_new(tenant: Tenant, after: Plan, now: datetime) -> None:
    """A tenant keeps its currency, for bills are never mixed; only one that is new and unused may take another."""
    begun = tenant.created_at.astimezone(UTC)
    owned = (UsageHour, Invoice, CreditEntry, PlanChange)
    counted = any(model.objects.for_tenant(tenant).exists() for model in owned)
    if counted or (begun.year, begun.month) != (now.astimezone(UTC).year, now.astimezone(UTC).month):
        raise Conflict(
            f"The plan {after.pk} is in {after.currency}, and {tenant.name} is billed in {tenant.plan.currency}: a "
            "tenant that has been billed, or has used something, keeps its currency. Open another account for it."
        )


def _spans(tenant: Account, changes: Sequence[PlanChange], month: date) -> Iterable[PlanSpan]:
    start, end = pricing.month_start(month), pricing.month_end(month)
    plan = changes[0].before_id if changes else tenant.plan_id
    for change in changes:
        if start < change.holds_from < end:
            yield PlanSpan(plan, start, change.holds_from)
            start = change.holds_from
        if change.holds_from < end:
            plan = change.after_id
    yield PlanSpan(plan, start, end)


def _prices(codes: Iterable[str]) -> dict[str, list[PriceVersion]]:
    found: dict[str, list[PriceVersion]] = {}
    for row in Price.objects.filter(plan__in=codes).order_by("meter", "valid_from"):
        found.setdefault(row.plan_id, []).append(version_of(row))
    return found


def _first_hour(tenant: Account) -> datetime:
    return tenant.created_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
