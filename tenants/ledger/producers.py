"""Who writes usage, and up to when all of it has arrived: watermarks, and what holds them up.

A producer's watermark is of its own clock, as its events are, and never ahead of the database's. A period may be closed
when `blocking` names nobody.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import F
from django.db.models.functions import Coalesce, Least, Now
from django.utils import timezone

from tenants import audit, scoping
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.limits import quotas
from tenants.models import QuotaLease, RejectedSegment, UsageProducer

# So long the transaction of a producer that records at once may take from its time to its commit.
GRACE = timedelta(minutes=1)
ALIVE = timedelta(seconds=30)
REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Blocking:
    """Who holds a period open: its usage is known to be complete before `complete_until` only."""

    producer: str
    complete_until: datetime
    reason: str


def open_producer(*, producer: str, now: datetime, records_at_once: bool = False) -> None:
    """Makes a producer known, before it writes its first event: none of its events is older than now."""
    row = UsageProducer(id=producer, started_at=now, records_at_once=records_at_once)
    row.seen_at = Now()
    row.watermark = Least(now, Now())
    UsageProducer.objects.bulk_create([row], ignore_conflicts=True)


def close_producer(*, producer: str, now: datetime) -> None:
    """Notes that all events of a producer that ended have arrived, and returns what it had leased."""
    with scoping.operator():
        quotas.release(producer=producer)
        UsageProducer.objects.update_or_create(
            id=producer, defaults={"drained_at": now}, create_defaults={"started_at": now, "drained_at": now}
        )


MOVE = """
INSERT INTO tenants_usageproducer AS known
    (id, started_at, seen_at, watermark, records_at_once, written_off_by, written_off_because)
VALUES (%s, %s, statement_timestamp(), LEAST(%s, statement_timestamp()), false, '', '')
ON CONFLICT (id) DO UPDATE
SET seen_at = excluded.seen_at, watermark = GREATEST(known.watermark, excluded.watermark)
"""


def move_watermark(*, producer: str, watermark: datetime) -> None:
    """All events of before have arrived. It moves forward only, and not beyond the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(MOVE, [producer, timezone.now(), watermark])


def complete_until() -> datetime:
    """The time before which no usage is missing, as far as anybody knows who is not written off."""
    return min([*(one.complete_until for one in _open()), quotas.database_time() - GRACE])


def blocking(end: datetime) -> list[Blocking]:
    """Whose events of before `end` may not have arrived, slowest first; empty is everybody's have."""
    found = [one for one in _open() if one.complete_until < end]
    recorded = quotas.database_time() - GRACE
    if recorded < end:
        found.append(Blocking("", recorded, f"what is recorded in transactions is complete {GRACE.seconds} s later"))
    return sorted(found, key=lambda one: (one.complete_until, one.producer))


def write_off(*, producer: str, reason: str, actor: str) -> UsageProducer:
    """Gives up what a dead producer has not delivered, so that periods can be closed; its leases are returned.

    Should its segments come after all, they are taken; should it be heard of again, it counts again.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= REASON_LENGTH:
        raise Invalid(
            f"The reason has {len(reason)} characters.",
            errors=(FieldError("reason", f"Expected 1 to {REASON_LENGTH} characters."),),
        )
    with scoping.operator():
        row = (
            UsageProducer.objects.select_for_update().annotate(silent=Now() - F("seen_at")).filter(pk=producer).first()
        )
        if row is None:
            raise NotFound(f"There is no producer {producer[:80]!r}.")
        _check_dead(row)
        audit.record_of_operators(actor=actor, verb="usage_producer.write_off", subject=producer, reason=reason)
        for tenant_id in sorted(
            set(QuotaLease.across_tenants.filter(producer=producer).values_list("tenant_id", flat=True))
        ):
            audit.record(
                tenant=tenant_id, actor=actor, verb="usage_producer.write_off", subject=producer, reason=reason
            )
        quotas.release(producer=producer)
        UsageProducer.objects.filter(pk=producer).update(
            written_off_at=Now(), written_off_by=actor, written_off_because=reason
        )
        row.refresh_from_db()
        return row


def rejected(*, segment_id: str, producer: str, host: str, path: str, reason: str) -> None:
    """Notes that the ledger could not take a segment: it holds up every period until it is taken or written off."""
    known = UsageProducer.objects.filter(pk=producer).annotate(before=Coalesce("watermark", "started_at"))
    RejectedSegment.objects.get_or_create(
        id=segment_id,
        defaults={
            "producer": producer,
            "host": host,
            "path": path,
            "reason": reason,
            "complete_before": known.values_list("before", flat=True).first() or Now(),
            "rejected_at": Now(),
        },
    )


def taken_after_all(*, segment_id: str) -> None:
    """A segment that had been rejected is in the ledger."""
    RejectedSegment.objects.filter(pk=segment_id).delete()


def _check_dead(row: UsageProducer) -> None:
    silent: timedelta | None = row.silent  # type: ignore[attr-defined]
    if row.records_at_once:
        raise Conflict(f"{row.pk} records its events in the transactions that make them: none can be missing.")
    if row.drained_at is not None and not RejectedSegment.objects.filter(producer=row.pk).exists():
        raise Conflict(f"All events of {row.pk} have arrived; there is nothing to write off.")
    if silent is not None and silent < ALIVE:
        raise Conflict(f"{row.pk} was heard of {silent.total_seconds():.0f} s ago: stop it first.")
    if _is_written_off(row):
        raise Conflict(f"{row.pk} was written off already, by {row.written_off_by}: {row.written_off_because}")


def _open() -> list[Blocking]:
    """Up to when each producer is complete that is neither drained nor written off."""
    producers = {row.pk: row for row in UsageProducer.objects.filter(drained_at=None, records_at_once=False)}
    found = [
        Blocking(row.pk, row.watermark or row.started_at, "its segments have not arrived")
        for row in producers.values()
        if not _is_written_off(row)
    ]
    owners = UsageProducer.objects.in_bulk(list(RejectedSegment.objects.values_list("producer", flat=True)))
    for segment in RejectedSegment.objects.all():
        owner = owners.get(segment.producer)
        if owner is None or not _is_written_off(owner):
            reason = f"its segment {segment.pk} was rejected: {segment.reason}"
            found.append(Blocking(segment.producer, segment.complete_before, reason))
    return found


def _is_written_off(row: UsageProducer) -> bool:
    """Unless it was heard of since."""
    return row.written_off_at is not None and (row.seen_at is None or row.seen_at <= row.written_off_at)
