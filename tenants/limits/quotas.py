"""Quotas: processes lease blocks of buckets and spend them in memory; what they used is settled with the events.

Whoever changes a bucket locks its row first, buckets in the order of `_KEY`, and a lease only under its bucket's lock.
Missing buckets are made before any is locked, in the same order.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import F, Q, QuerySet, Sum

from tenants import scoping
from tenants.limits import quota_limits, quota_notices, quota_periods, spend_caps
from tenants.limits.quota_limits import TENANT, Address, Limit
from tenants.limits.spend_caps import Headroom
from tenants.models import Meter, Period, QuotaBucket, QuotaLease, QuotaMeter, UsageHour
from tenants.models.quotas import HIGHEST_LIMIT

BLOCK_SHARE = 4  # A block is at most this part of what is left, so blocks shrink toward 1 near the limit.
KEPT = {Period.MINUTE: timedelta(hours=1), Period.DAY: timedelta(days=62)}
RECALL = "recall"  # The channel on which processes are asked for what they hold and do not use.

# Few locks however many tenants: two may share one. Taken in one order, so that nobody waits in a ring.
ALONE = """
SELECT pg_advisory_xact_lock(hashtext('quota_buckets'), slot)
FROM (SELECT DISTINCT hashtext(id) & 63 AS slot FROM unnest(%s) AS id ORDER BY 1) AS slots
"""
SHARED = """
SELECT pg_advisory_xact_lock_shared(hashtext('quota_buckets'), slot)
FROM (SELECT DISTINCT hashtext(id) & 63 AS slot FROM unnest(%s) AS id ORDER BY 1) AS slots
"""

SAVE_BUCKETS = """
UPDATE tenants_quotabucket AS bucket
SET "limit" = new."limit", leased = new.leased, consumed = new.consumed, warned = new.warned
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[])
    AS new (id, "limit", leased, consumed, warned)
WHERE bucket.id = new.id
"""
SAVE_LEASES = """
UPDATE tenants_quotalease AS lease SET units = new.units
FROM unnest(%s::bigint[], %s::bigint[]) AS new (id, units)
WHERE lease.id = new.id
"""

_KEY = ("tenant_id", "scope", "meter", "period", "period_start")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a process wants of one bucket: up to `wanted` units, at least `minimum`."""

    scope: str
    meter: str
    period: str
    wanted: int
    minimum: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.wanted:
            raise ValueError(f"a lease of {self.minimum} to {self.wanted} units: expected 1 <= minimum <= wanted")

    @property
    def address(self) -> Address:
        return self.scope, self.meter, self.period


@dataclass(frozen=True, slots=True)
class Grant:
    """What a lease gave. No limit is no bucket; `remaining` is left for everybody after it.

    `refused` is what the ask failed at; `elsewhere` is what other processes hold of the bucket, and may give back.
    """

    units: int
    limit: int | None
    remaining: int
    period_start: datetime
    period_end: datetime
    refused: bool = False
    elsewhere: int = 0
    headroom: Headroom | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Units of a lease that a process hands back."""

    scope: str
    meter: str
    period: str
    period_start: datetime
    units: int


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """The bucket that an event is counted in."""

    tenant_id: str
    scope: str
    period: str
    period_start: datetime


def lease(*, tenant_id: str, producer: str, asks: Sequence[Ask], recall: bool = False) -> list[Grant]:
    """Reserves units of several buckets for a process to spend in memory: all the minimums, or nothing of any.

    One transaction. With `recall` a refusal asks other processes to give back what they hold and do not use.
    """
    with scoping.tenant(tenant_id):
        now = database_time()
        limits = quota_limits.of(tenant_id)
        buckets = _locked(tenant_id, asks, limits, now)
        own = {
            row.bucket_id: row.units
            for row in QuotaLease.objects.for_tenant(tenant_id).filter(producer=producer, bucket__in=buckets.values())
        }
        rooms = {address: _room(bucket, limits[address], now) for address, bucket in buckets.items()}
        short = {ask.address for ask in asks if ask.address in rooms and rooms[ask.address][0] < ask.minimum}
        grants = []
        for ask in asks:
            start = quota_periods.start_of(ask.period, now)
            bucket = buckets.get(ask.address)
            if bucket is None:
                units = 0 if short else ask.wanted
                grants.append(Grant(units, None, ask.wanted, start, quota_periods.end_of(ask.period, start)))
                continue
            room, headroom = rooms[ask.address]
            units = 0 if short else block(wanted=ask.wanted, minimum=ask.minimum, remaining=room)
            _reserve(bucket, producer, units)
            grants.append(
                Grant(
                    units=units,
                    limit=limits[ask.address].limit,
                    remaining=max(0, room - units),
                    period_start=start,
                    period_end=quota_periods.end_of(ask.period, start),
                    refused=ask.address in short,
                    elsewhere=bucket.leased - units - own.get(bucket.pk, 0),
                    headroom=headroom,
                )
            )
        for ask, grant in zip(asks, grants, strict=True):
            if recall and grant.refused and grant.elsewhere:
                _recall(tenant_id, producer, ask.address)
        return grants


def block(*, wanted: int, minimum: int, remaining: int) -> int:
    """How many units a lease gets: all that is wanted while plenty is left, less near the limit, 0 if too little is."""
    if remaining < minimum:
        return 0
    return max(minimum, min(wanted, remaining // BLOCK_SHARE))


def give_back(*, tenant_id: str, producer: str, held: Iterable[Held]) -> None:
    """Returns units that were not spent; more than a lease holds returns what it holds."""
    units = {(one.scope, one.meter, one.period, one.period_start): one.units for one in held}
    if not units:
        return
    with scoping.tenant(tenant_id):
        found = list(_rows_of(tenant_id, units).order_by(*_KEY).select_for_update())
        leases = _leases_of(producer, found)
        for bucket in found:
            lease = leases.get(bucket.pk)
            if lease is not None:
                key = (bucket.scope, bucket.meter, bucket.period, bucket.period_start)
                _move(bucket, lease, returned=min(units[key], lease.units), consumed=0)
        _save(found, leases.values())


def settle(*, producer: str, used: Mapping[Use, int]) -> None:
    """Turns leased units into consumed ones, for a segment's events; in the transaction that takes the segment.

    Events are spent from leases, so this is exact as a rule. Where the lease is smaller than what was used (a limit
    that was set after the request began, or had been taken away for a while), the rest is consumed all the same, for a
    limit that is raised later counts it: the bucket then holds more than its limit, and leases nothing. A bucket that
    is not there needs nothing: when it is made it begins with what the ledger holds (`_consumed`), and `_shut_out` has
    that wait for this transaction.
    """
    if not used:
        return
    _shut_out({use.tenant_id for use in used}, shared=True)
    buckets = {_use_of(bucket): bucket for bucket in _lock_buckets(used)}
    leases = _leases_of(producer, buckets.values())
    for use, bucket in buckets.items():
        held = leases.get(bucket.pk)
        leased = min(used[use], held.units if held else 0)
        if leased < used[use]:
            # A limit that was set this minute is nothing to look into; a bucket that is passed for long is.
            logger.log(
                logging.INFO if use.period == Period.MINUTE else logging.WARNING,
                "%s used %d of %s of %s but had leased %d",
                producer,
                used[use],
                bucket,
                bucket.tenant_id,
                leased,
            )
        _move(bucket, held, returned=leased, consumed=used[use])
    quota_notices.tell(buckets.values())
    _save(buckets.values(), leases.values())


def release(*, producer: str) -> None:
    """Returns all that a producer holds: it is gone, and its events have arrived. Needs operator scope."""
    leases = QuotaLease.across_tenants.filter(producer=producer)
    buckets = QuotaBucket.across_tenants.filter(pk__in=list(leases.values_list("bucket", flat=True)))
    for bucket in buckets.order_by(*_KEY).select_for_update():
        held = leases.filter(bucket=bucket).first()  # Read under the lock: another process may have released it.
        if held is not None:
            _move(bucket, held, returned=held.units, consumed=0)
            bucket.save(update_fields=["leased", "consumed"])
            held.delete()


def scopes_of(*, key: str, deployment: str) -> tuple[str, str, str]:
    """The scopes that a prediction is counted in."""
    return TENANT, quota_limits.KEY + key, quota_limits.DEPLOYMENT + deployment


def database_time() -> datetime:
    """The moment that periods are told by: the database's, which all processes share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def _room(bucket: QuotaBucket, limit: Limit, now: datetime) -> tuple[int, Headroom | None]:
    """How many units may still be leased, and by what money if a cap on spending bounds them."""
    spoken_for = bucket.consumed + bucket.leased
    # Where only a cap bounds the month, the bucket is there to know what is leased.
    highest = spoken_for + HIGHEST_LIMIT if limit.limit is None else limit.limit
    bucket.limit = max(highest, spoken_for)  # A limit may have been changed since the bucket was made.
    room = highest - spoken_for
    headroom = None
    if limit.address == (TENANT, QuotaMeter.PREDICTIONS, Period.MONTH):
        headroom = spend_caps.headroom(tenant_id=bucket.tenant_id, leased=bucket.leased, now=now)
        if headroom is not None and headroom.predictions is not None:
            room = min(room, headroom.predictions)
    return room, headroom


def _reserve(bucket: QuotaBucket, producer: str, units: int) -> None:
    bucket.leased += units
    bucket.save(update_fields=["limit", "leased"])
    if units:
        _add_to_lease(bucket, producer, units)


def _locked(
    tenant_id: str, asks: Sequence[Ask], limits: Mapping[Address, Limit], now: datetime
) -> dict[Address, QuotaBucket]:
    """The buckets of those asks that a limit holds for, locked; made where they are missing."""
    wanted = {(*ask.address, quota_periods.start_of(ask.period, now)): 0 for ask in asks if ask.address in limits}
    if not wanted:
        return {}
    rows = _rows_of(tenant_id, wanted)
    there = {(row.scope, row.meter, row.period, row.period_start) for row in rows}
    missing = sorted(wanted.keys() - there)
    if missing:
        _make(tenant_id, missing, limits)
    return {(row.scope, row.meter, row.period): row for row in rows.order_by(*_KEY).select_for_update()}


def _make(
    tenant_id: str, missing: list[tuple[str, str, str, datetime]], limits: Mapping[Address, Limit]
) -> None:  # fmt: skip
    if any(period in (Period.DAY, Period.MONTH) for _, _, period, _ in missing):
        _shut_out({tenant_id}, shared=False)
    new = []
    for scope, meter, period, start in missing:
        consumed = _consumed(tenant_id, scope, period, start)
        limit = limits[scope, meter, period].limit or 0
        new.append(
            QuotaBucket(
                tenant_id=tenant_id, scope=scope, meter=meter, period=period, period_start=start,
                limit=max(limit, consumed), consumed=consumed,
            )
        )  # fmt: skip
    QuotaBucket.across_tenants.bulk_create(new, ignore_conflicts=True)
    for period in {period for _, _, period, _ in missing} & KEPT.keys():
        _forget(tenant_id, period, before=max(row.period_start for row in new) - KEPT[Period(period)])


def _consumed(tenant_id: str, scope: str, period: str, start: datetime) -> int:
    """What the ledger holds of a day or month whose bucket is only now made: there was no limit until now."""
    if period not in (Period.DAY, Period.MONTH):
        return 0
    kind, _, name = scope.partition(":")
    only = {} if scope == TENANT else {kind: name}
    rows = UsageHour.objects.for_tenant(tenant_id).filter(
        hour__gte=start, hour__lt=quota_periods.end_of(period, start), meter=Meter.PREDICTIONS, **only
    )
    return int(rows.aggregate(total=Sum("quantity"))["total"] or 0)


def _shut_out(tenants: Iterable[str], *, shared: bool) -> None:
    """Has whoever makes a tenant's bucket from the ledger wait for those who settle, and these for it."""
    with connection.cursor() as cursor:
        cursor.execute(SHARED if shared else ALONE, [sorted(tenants)])


def _forget(tenant_id: str, period: str, *, before: datetime) -> None:
    rows = QuotaBucket.objects.for_tenant(tenant_id).filter(period=period, period_start__lt=before)
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


def _recall(tenant_id: str, producer: str, address: Address) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [RECALL, json.dumps([tenant_id, producer, *address])])


def _move(bucket: QuotaBucket, held: QuotaLease | None, *, returned: int, consumed: int) -> None:
    bucket.leased -= returned
    bucket.consumed += consumed
    bucket.limit = max(bucket.limit, bucket.consumed + bucket.leased)
    if held is not None:
        held.units -= returned


def _save(buckets: Iterable[QuotaBucket], leases: Iterable[QuotaLease]) -> None:
    """Writes rows that are locked, each table by one statement: whoever settles does so every second, amid requests."""
    changed = [(row.pk, row.limit, row.leased, row.consumed, row.warned) for row in buckets]
    held = [(row.pk, row.units) for row in leases]
    with connection.cursor() as cursor:
        if changed:
            cursor.execute(SAVE_BUCKETS, [list(column) for column in zip(*changed, strict=True)])
        if held:
            cursor.execute(SAVE_LEASES, [list(column) for column in zip(*held, strict=True)])


def _leases_of(producer: str, buckets: Iterable[QuotaBucket]) -> dict[int, QuotaLease]:
    rows = QuotaLease.across_tenants.filter(producer=producer, bucket__in=list(buckets))
    return {row.bucket_id: row for row in rows}


def _rows_of(tenant_id: str, places: Iterable[tuple[str, str, str, datetime]]) -> QuerySet[QuotaBucket]:
    named = Q()
    for scope, meter, period, start in places:
        named |= Q(scope=scope, meter=meter, period=period, period_start=start)
    return QuotaBucket.objects.for_tenant(tenant_id).filter(named)


def _lock_buckets(used: Mapping[Use, int]) -> QuerySet[QuotaBucket]:
    rows = QuotaBucket.across_tenants.filter(meter=QuotaMeter.PREDICTIONS)
    named = rows.filter(
        tenant_id__in={use.tenant_id for use in used}, period_start__in={use.period_start for use in used}
    ).values_list("pk", "tenant_id", "scope", "period", "period_start")
    # These lists name together some periods of other tenants, and all their keys: only what was used is locked.
    wanted = [pk for pk, tenant, scope, period, start in named if Use(tenant, scope, period, start) in used]
    return rows.filter(pk__in=wanted).order_by(*_KEY).select_for_update()


def _use_of(bucket: QuotaBucket) -> Use:
    return Use(bucket.tenant_id, bucket.scope, bucket.period, bucket.period_start)
