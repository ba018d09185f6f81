"""Quotas: processes lease blocks of a bucket and spend them in memory; what they used is settled with the events.

Whoever changes a bucket locks its row first, buckets in the order of `_KEY`, and a lease only under its bucket's lock.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import F, Sum

from tenants import scoping
from tenants.models import Meter, Period, QuotaBucket, QuotaLease, Tenant, UsageHour

TENANT = "tenant"
BLOCK_SHARE = 4  # A block is at most this part of what is left, so blocks shrink toward 1 near the limit.
MINUTES_KEPT = timedelta(hours=1)

_KEY = ("tenant_id", "scope", "meter", "period", "period_start")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a lease gave: 0 units is a refusal, no limit is no bucket; `remaining` is left for everybody after it."""

    units: int
    limit: int | None
    remaining: int
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """The bucket of a tenant that an event is counted in."""

    tenant_id: str
    period: str
    period_start: datetime


def lease(*, tenant_id: str, producer: str, period: Period, wanted: int, minimum: int) -> Grant:
    """Reserves up to `wanted` units, at least `minimum`, for a process to spend in memory; one transaction."""
    if not 1 <= minimum <= wanted:
        raise ValueError(f"a lease of {minimum} to {wanted} units: expected 1 <= minimum <= wanted")
    with scoping.tenant(tenant_id):
        start = start_of(period, _database_time())
        end = end_of(period, start)
        limit = _limit(tenant_id, period)
        if limit is None:
            return Grant(units=wanted, limit=None, remaining=wanted, period_start=start, period_end=end)
        bucket = _locked(tenant_id, period, start, limit)
        spoken_for = bucket.consumed + bucket.leased
        bucket.limit = max(limit, spoken_for)  # A plan may have been changed since the bucket was made.
        units = block(wanted=wanted, minimum=minimum, remaining=limit - spoken_for)
        bucket.leased += units
        bucket.save(update_fields=["limit", "leased"])
        if units:
            _add_to_lease(bucket, producer, units)
        remaining = max(0, limit - spoken_for - units)
        return Grant(units=units, limit=limit, remaining=remaining, period_start=start, period_end=end)


def block(*, wanted: int, minimum: int, remaining: int) -> int:
    """How many units a lease gets: all that is wanted while plenty is left, less near the limit, 0 if too little is."""
    if remaining < minimum:
        return 0
    return max(minimum, min(wanted, remaining // BLOCK_SHARE))


def give_back(*, tenant_id: str, producer: str, period: Period, period_start: datetime, units: int) -> None:
    """Returns units of a lease that were not spent; more than the lease holds returns what it holds."""
    with scoping.tenant(tenant_id):
        rows = QuotaBucket.objects.for_tenant(tenant_id).select_for_update()
        bucket = rows.filter(
            scope=TENANT, meter=Meter.PREDICTIONS, period=period, period_start=period_start
        ).first()  # fmt: skip
        if bucket is None:
            return
        held = QuotaLease.objects.for_tenant(tenant_id).filter(bucket=bucket, producer=producer).first()
        if held is not None:
            _settle(bucket, held, returned=min(units, held.units), consumed=0)


def settle(*, producer: str, used: Mapping[Use, int]) -> None:
    """Turns leased units into consumed ones, for a segment's events; in the transaction that takes the segment.

    Events are spent from leases, so this is exact as a rule. Where the lease is smaller than what was used (a period
    that ended while the request ran, a producer closed too early), the rest is consumed as far as the limit allows.
    A bucket that is not there needs nothing: when it is made it begins with what the ledger holds (`_consumed`).
    """
    buckets = {_use_of(bucket): bucket for bucket in _lock_buckets(used)}
    leases = {
        row.bucket_id: row for row in QuotaLease.across_tenants.filter(producer=producer, bucket__in=buckets.values())
    }
    for use, bucket in buckets.items():
        held = leases.get(bucket.pk)
        leased = min(used[use], held.units if held else 0)
        room = bucket.limit - bucket.consumed - bucket.leased + leased
        if leased < used[use]:
            # A minute that ends while a request waits for its lease is nothing to look into; a month's bucket is.
            logger.log(
                logging.INFO if use.period == Period.MINUTE else logging.WARNING,
                "%s used %d of %s of %s but had leased %d",
                producer,
                used[use],
                bucket,
                bucket.tenant_id,
                leased,
            )
        _settle(bucket, held, returned=leased, consumed=min(used[use], room))


def release(*, producer: str) -> None:
    """Returns all that a producer holds: it is gone, and its events have arrived. Needs operator scope."""
    leases = QuotaLease.across_tenants.filter(producer=producer)
    buckets = QuotaBucket.across_tenants.filter(pk__in=list(leases.values_list("bucket", flat=True)))
    for bucket in buckets.order_by(*_KEY).select_for_update():
        held = leases.filter(bucket=bucket).first()  # Read under the lock: another process may have released it.
        if held is not None:
            _settle(bucket, held, returned=held.units, consumed=0)
            held.delete()


def start_of(period: str, moment: datetime) -> datetime:
    """The beginning of the period that a moment lies in, in UTC."""
    minute = moment.astimezone(UTC).replace(second=0, microsecond=0)
    return minute if period == Period.MINUTE else minute.replace(day=1, hour=0, minute=0)


def end_of(period: str, start: datetime) -> datetime:
    """The first moment after the period that begins at `start`."""
    if period == Period.MINUTE:
        return start + timedelta(minutes=1)
    return (start + timedelta(days=32)).replace(day=1)


def _limit(tenant_id: str, period: str) -> int | None:
    field = {Period.MINUTE: "predictions_per_minute", Period.MONTH: "predictions_per_month"}[Period(period)]
    limit: int | None = Tenant.objects.values_list(f"plan__{field}", flat=True).get(pk=tenant_id)
    return limit


def _database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def _locked(tenant_id: str, period: str, start: datetime, limit: int) -> QuotaBucket:
    key = {"scope": TENANT, "meter": Meter.PREDICTIONS, "period": period, "period_start": start}
    rows = QuotaBucket.objects.for_tenant(tenant_id).filter(**key).select_for_update()
    bucket = rows.first()
    if bucket is None:
        consumed = _consumed(tenant_id, period, start)
        new = QuotaBucket(tenant_id=tenant_id, limit=max(limit, consumed), consumed=consumed, **key)
        QuotaBucket.across_tenants.bulk_create([new], ignore_conflicts=True)
        if period == Period.MINUTE:
            _forget_minutes(tenant_id, before=start - MINUTES_KEPT)
        bucket = rows.get()
    return bucket


def _consumed(tenant_id: str, period: str, start: datetime) -> int:
    """What the ledger holds of a month whose bucket is only now made: the tenant had no limit until now."""
    if period == Period.MINUTE:
        return 0
    rows = UsageHour.objects.for_tenant(tenant_id).filter(
        hour__gte=start, hour__lt=end_of(period, start), meter=Meter.PREDICTIONS
    )
    return int(rows.aggregate(total=Sum("quantity"))["total"] or 0)


def _forget_minutes(tenant_id: str, *, before: datetime) -> None:
    rows = QuotaBucket.objects.for_tenant(tenant_id).filter(period=Period.MINUTE, period_start__lt=before)
    old = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
    if old:
        QuotaLease.objects.for_tenant(tenant_id).filter(bucket__in=old).delete()
        QuotaBucket.objects.for_tenant(tenant_id).filter(pk__in=old).delete()


def _add_to_lease(bucket: QuotaBucket, producer: str, units: int) -> None:
    QuotaLease.across_tenants.bulk_create(
        [QuotaLease(tenant_id=bucket.tenant_id, bucket=bucket, producer=producer)], ignore_conflicts=True
    )
    QuotaLease.objects.for_tenant(bucket.tenant_id).filter(bucket=bucket, producer=producer).update(
        units=F("units") + units
    )


def _settle(bucket: QuotaBucket, held: QuotaLease | None, *, returned: int, consumed: int) -> None:
    bucket.leased -= returned
    bucket.consumed += consumed
    bucket.save(update_fields=["leased", "consumed"])
    if held is not None and returned:
        held.units -= returned
        held.save(update_fields=["units"])


def _lock_buckets(used: Mapping[Use, int]) -> Iterator[QuotaBucket]:
    rows = QuotaBucket.across_tenants.filter(
        scope=TENANT,
        meter=Meter.PREDICTIONS,
        tenant_id__in={use.tenant_id for use in used},
        period_start__in={use.period_start for use in used},
    )
    # Locked beyond need: a bucket of another tenant's period that these two lists happen to name together.
    for bucket in rows.order_by(*_KEY).select_for_update():
        if _use_of(bucket) in used:
            yield bucket


def _use_of(bucket: QuotaBucket) -> Use:
    return Use(tenant_id=bucket.tenant_id, period=bucket.period, period_start=bucket.period_start)
