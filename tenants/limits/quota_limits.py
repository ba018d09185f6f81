"""Limits: how much of a quota a tenant, a key or a deployment may use, and who may say so.

The operator's row stands in the place of what the plan says, and may be above it; the tenant's own row may only tighten
what is left of the two. So the limit that holds is the smaller of (operator's row, else the plan's) and the tenant's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tenants import audit
from tenants.errors import Conflict, Denied, FieldError, Invalid, NotFound
from tenants.models import ApiKey, Period, Plan, QuotaLimit, QuotaMeter, SetBy, SpendCap, Tenant
from tenants.models.quotas import HIGHEST_LIMIT, SCOPE_LENGTH

TENANT = "tenant"
KEY, DEPLOYMENT = "key:", "deployment:"
PLAN = "plan"
PREDICTION_PERIODS = (Period.MINUTE, Period.DAY, Period.MONTH)
MOST_LIMITS = 1000

Address = tuple[str, str, str]  # scope, meter, period


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds for a scope: `limit` units of a meter in a period, said by the plan, the tenant or the operator.

    `limit` is none where there is no more than a cap on spending, which counts on the tenant's month.
    """

    scope: str
    meter: str
    period: str
    limit: int | None
    set_by: str

    @property
    def address(self) -> Address:
        return self.scope, self.meter, self.period


def _no_deployment(tenant: Tenant, name: str) -> bool:
    del tenant, name
    return False


# Deployments are not known in this app: the app that has them says here which there are.
deployment_exists: Callable[[Tenant, str], bool] = _no_deployment


def know_deployments(exists: Callable[[Tenant, str], bool]) -> None:
    """Has limits ask `exists(tenant, name)` about a deployment."""
    global deployment_exists
    deployment_exists = exists


def put(
    *, tenant: Tenant, scope: str, meter: str, period: str, limit: Any, set_by: str, actor: str, now: datetime
) -> QuotaLimit:
    """Sets a limit; one that this side has set at the same place already is replaced. It holds within a second."""
    _check_place(scope, meter, period)
    _check_number(limit)
    _check_scope(tenant, scope)
    place = {"scope": scope, "meter": meter, "period": period}
    if set_by == SetBy.TENANT:
        _check_tightens(tenant, place, limit)
    rows = QuotaLimit.objects.for_tenant(tenant)
    if rows.count() >= MOST_LIMITS and not rows.filter(set_by=set_by, **place).exists():
        raise Conflict(
            f"There are {MOST_LIMITS:,} limits already, the most that an account may have; remove one first."
        )
    row, _ = rows.update_or_create(
        tenant=tenant,
        set_by=set_by,
        **place,
        defaults={"limit": limit},
        create_defaults={"limit": limit, "created_at": now},
    )
    audit.record(
        tenant=tenant, actor=actor, verb="quota_limit.put", subject=row.pk, limit=limit, set_by=set_by, **place
    )
    return row


def remove(*, limit: QuotaLimit, side: str, actor: str) -> None:
    """Takes a limit away; a tenant cannot take the operator's away."""
    if side == SetBy.TENANT and limit.set_by != SetBy.TENANT:
        raise Denied(f"The limit {limit.pk} was set by the operator; only the operator can remove it.")
    removed, _ = QuotaLimit.objects.for_tenant(limit.tenant_id).filter(pk=limit.pk).delete()
    if removed:
        audit.record(
            tenant=limit.tenant_id, actor=actor, verb="quota_limit.remove", subject=limit.pk, scope=limit.scope,
            meter=limit.meter, period=limit.period, limit=limit.limit,
        )  # fmt: skip


def get(*, tenant: Tenant, limit_id: str) -> QuotaLimit:
    """The tenant's limit of this id."""
    row = QuotaLimit.objects.for_tenant(tenant).filter(pk=limit_id).first()
    if row is None:
        raise NotFound(f"There is no quota limit {limit_id!r}.")
    return row


def of(tenant: Tenant | str) -> dict[Address, Limit]:
    """The limits that hold for a tenant, by where they hold. Needs the tenant's scope, or the operator's."""
    if isinstance(tenant, str):
        tenant = Tenant.objects.select_related("plan").get(pk=tenant)
    capped = SpendCap.objects.for_tenant(tenant).exists()
    return effective(plan=tenant.plan, rows=QuotaLimit.objects.for_tenant(tenant), capped=capped)


def effective(*, plan: Plan, rows: Iterable[QuotaLimit], capped: bool) -> dict[Address, Limit]:
    """The limits that hold, of all that were set."""
    found: dict[Address, Limit] = {}
    for period in PREDICTION_PERIODS:
        limit = getattr(plan, f"predictions_per_{period}")
        if limit is not None:
            found[TENANT, QuotaMeter.PREDICTIONS, period] = Limit(TENANT, QuotaMeter.PREDICTIONS, period, limit, PLAN)
    for row in sorted(rows, key=lambda row: row.set_by):  # the operator's first: they replace, the tenant's tighten
        address = (row.scope, row.meter, row.period)
        before = found.get(address)
        if row.set_by == SetBy.TENANT and before is not None and before.limit is not None and before.limit <= row.limit:
            continue
        found[address] = Limit(*address, row.limit, row.set_by)
    month = (TENANT, str(QuotaMeter.PREDICTIONS), str(Period.MONTH))
    if capped:
        found.setdefault(month, Limit(*month, None, PLAN))
    return found


def whose(limit: Limit) -> str:
    """How a refusal names what a limit holds for."""
    kind, _, name = limit.scope.partition(":")
    if kind != TENANT:
        return f"The limit of the {kind} {name}"
    return "The plan" if limit.set_by == PLAN else "The limit of the account"


def name_of(limit: Limit) -> str:
    """How headers call a limit: `month`, `key-day`, `deployment-concurrency`."""
    kind = limit.scope.partition(":")[0]
    what = limit.meter if limit.meter == QuotaMeter.CONCURRENCY else limit.period
    return what if kind == TENANT else f"{kind}-{what}"


def _check_place(scope: str, meter: str, period: str) -> None:
    if meter not in QuotaMeter.values:
        raise _invalid("meter", meter, f"one of {', '.join(QuotaMeter.values)}")
    expected = [Period.ALWAYS] if meter == QuotaMeter.CONCURRENCY else PREDICTION_PERIODS
    if period not in expected:
        raise _invalid("period", period, f"{' or '.join(expected)} for {meter}")
    kind, colon, name = scope.partition(":")
    if not (scope == TENANT or (kind + colon in (KEY, DEPLOYMENT) and name and len(scope) <= SCOPE_LENGTH)):
        raise _invalid("scope", scope, "tenant, key:ID or deployment:NAME")


def _check_number(limit: Any) -> None:
    if type(limit) is not int or not 1 <= limit <= HIGHEST_LIMIT:
        raise _invalid(
            "limit", limit, f"a whole number from 1 to {HIGHEST_LIMIT:,}; to let nothing in, revoke or pause instead"
        )


def _check_scope(tenant: Tenant, scope: str) -> None:
    kind, _, name = scope.partition(":")
    if kind == "key" and not ApiKey.objects.for_tenant(tenant).filter(pk=name, revoked_at=None).exists():
        raise _invalid("scope", scope, "the id of one of the account's keys that is not revoked after key:")
    if kind == "deployment" and not deployment_exists(tenant, name):
        raise _invalid("scope", scope, "the name of one of the account's deployments after deployment:")


def _check_tightens(tenant: Tenant, place: dict[str, str], limit: int) -> None:
    """A tenant's own limit lies below what the plan or the operator says of the same place."""
    above = effective(
        plan=tenant.plan,
        rows=QuotaLimit.objects.for_tenant(tenant).filter(set_by=SetBy.OPERATOR, **place),
        capped=False,
    ).get((place["scope"], place["meter"], place["period"]))
    if above is not None and above.limit is not None and limit > above.limit:
        said = "The plan says" if above.set_by == PLAN else "The operator has set"
        raise Invalid(
            f"limit is {limit:,}. {said} {above.limit:,} {place['meter']} here already, and a limit of yours may only "
            "be tighter; ask the operator for more.",
            errors=(FieldError("limit", f"Expected at most {above.limit:,}."),),
        )


def _invalid(field: str, value: Any, expected: str) -> Invalid:
    return Invalid(
        f"{field} is {str(value)[:120]!r}; expected {expected}.", errors=(FieldError(field, f"Expected {expected}."),)
    )
