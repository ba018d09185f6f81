"""The state of quotas: of each limit that holds now, how much is used and how much is left."""

from dataclasses import dataclass
from datetime import datetime

from tenants.limits import quota_limits, quota_periods, quotas
from tenants.limits.quota_limits import TENANT, Limit
from tenants.limits.quota_notices import THRESHOLDS
from tenants.models import Period, QuotaBucket, QuotaMeter, Tenant


@dataclass(frozen=True, slots=True)
class State:
    """A limit and its bucket: `used` is settled, `reserved` is under way or held by a server for what comes next."""

    limit: Limit
    period_start: datetime
    period_end: datetime
    used: int
    reserved: int

    @property
    def remaining(self) -> int:
        return max(0, (self.limit.limit or 0) - self.used - self.reserved)


def states(*, tenant: Tenant) -> list[State]:
    """The tenant's limits in the order of scope, meter and period, with what is used of them in this period."""
    now = quotas.database_time()
    starts = {period: quota_periods.start_of(period, now) for period in Period.values}
    rows = QuotaBucket.objects.for_tenant(tenant).filter(period_start__in=set(starts.values()))
    buckets = {(row.scope, row.meter, row.period): row for row in rows if row.period_start == starts[row.period]}
    found = []
    for address, limit in sorted(quota_limits.of(tenant).items()):
        if limit.limit is None:
            continue
        bucket, start = buckets.get(address), starts[limit.period]
        used, reserved = (bucket.consumed, bucket.leased) if bucket else (0, 0)
        found.append(State(limit, start, quota_periods.end_of(limit.period, start), used, reserved))
    return found


def warning(*, tenant: Tenant) -> str:
    """What of the account's day and month is past the first threshold, as the header `X-Quota-Warning` says it."""
    now = quotas.database_time()
    starts = {period: quota_periods.start_of(period, now) for period in (Period.DAY, Period.MONTH)}
    rows = QuotaBucket.objects.for_tenant(tenant).filter(
        scope=TENANT, meter=QuotaMeter.PREDICTIONS, period__in=starts, period_start__in=starts.values(),
        warned__gte=THRESHOLDS[0],
    )  # fmt: skip
    used = {
        row.period: 100 * row.consumed // row.limit
        for row in rows.order_by("period")
        if row.period_start == starts[Period(row.period)]
    }
    # A limit that was raised since is not near its end any more.
    return ", ".join([f'"{period}";used={part}' for period, part in used.items() if part >= THRESHOLDS[0]])
