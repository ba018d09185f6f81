"""Byte-hours: the exact integral of stored bytes over time, told to the ledger hour by hour."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction

from django.db.models import Q, Sum

from modelhub.models import Blob, StorageAccrual
from modelhub.storage import files
from modelhub.storage.blobs import PRODUCER, logger
from tenants import scoping
from tenants.ledger import producers, usage
from tenants.models import Meter

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
PLACES = 12


@dataclass(frozen=True, slots=True)
class Change:
    """From a moment on, so many bytes more are stored; fewer where negative."""

    at: datetime
    size: int


def byte_hours(*, held: int, changes: Iterable[Change], start: datetime, end: datetime) -> dict[datetime, Decimal]:
    """Stored bytes times hours within each UTC hour that [start, end) touches, where any; to 12 places, half to even.

    `held` bytes are stored at `start`, and `changes` lie in (start, end].
    """
    integral: dict[datetime, int] = defaultdict(int)
    at = start.astimezone(UTC)
    for change in (*sorted(changes, key=lambda c: c.at), Change(end, 0)):
        while at < change.at:
            hour = at.replace(minute=0, second=0, microsecond=0)
            until = min(hour + HOUR, change.at.astimezone(UTC))
            integral[hour] += held * ((until - at) // MICROSECOND)
            at = until
        held += change.size
    return {hour: _in_hours(total) for hour, total in integral.items() if total}


def accrue(*, now: datetime) -> int:
    """Tells the ledger every tenant's byte-hours up to `now`; how many tenants had some. Any process may call it."""
    with scoping.operator():
        due = list(StorageAccrual.objects.filter(until__lt=now).values_list("tenant_id", "until"))
    told = sum(_accrue(tenant_id=tenant_id, since=since, now=now) for tenant_id, since in due)
    # Storing may be under way for a tenant that had nothing stored.
    producers.move_watermark(producer=PRODUCER, watermark=now - producers.GRACE)
    return told


def _accrue(*, tenant_id: str, since: datetime, now: datetime) -> bool:
    """One tenant's, in one transaction: moving `until` also locks the tenant's storage."""
    with scoping.operator():
        if not StorageAccrual.objects.filter(tenant_id=tenant_id, until=since).update(until=now):
            return False
        quantities = byte_hours(
            held=_held(tenant_id, since), changes=_changes(tenant_id, since, now), start=since, end=now
        )
        _forget_erased(tenant_id, now)
        if not quantities:
            return False
        segment_id = f"{PRODUCER}-{tenant_id}-{(since - datetime.fromtimestamp(0, UTC)) // MICROSECOND}"
        events = [
            usage.UsageEvent(
                id=f"{segment_id}-{number}",
                at_ms=int(hour.timestamp()) * 1000,
                tenant=tenant_id,
                key="",
                deployment="",
                version="",
                meters={Meter.STORED_BYTE_HOURS.value: quantity},
            )
            for number, (hour, quantity) in enumerate(sorted(quantities.items()))
        ]
        usage.record(events=events, producer=PRODUCER, segment_id=segment_id)
        return True


def _held(tenant_id: str, at: datetime) -> int:
    rows = Blob.objects.for_tenant(tenant_id).filter(Q(erased_at=None) | Q(erased_at__gt=at), stored_at__lte=at)
    return rows.aggregate(total=Sum("size"))["total"] or 0


def _changes(tenant_id: str, since: datetime, now: datetime) -> list[Change]:
    """Those in (since, now], one for each moment: the files of an upload are stored and erased together."""
    rows = Blob.objects.for_tenant(tenant_id)
    stored = rows.filter(stored_at__gt=since, stored_at__lte=now).values_list("stored_at").annotate(Sum("size"))
    erased = rows.filter(erased_at__gt=since, erased_at__lte=now).values_list("erased_at").annotate(Sum("size"))
    return [Change(at, size) for at, size in stored] + [Change(at, -size) for at, size in erased]


def _forget_erased(tenant_id: str, now: datetime) -> None:
    """Drops the rows of erased files that are accounted for, and their files where a crash left them."""
    rows = Blob.objects.for_tenant(tenant_id)
    erased = dict(rows.filter(erased_at__lte=now).values_list("pk", "sha256"))
    stored_again = set(rows.filter(erased_at=None, sha256__in=set(erased.values())).values_list("sha256", flat=True))
    gone = []
    for row, sha256 in erased.items():
        try:
            if sha256 not in stored_again:
                files.remove(name=files.name_of(tenant_id=tenant_id, sha256=sha256))
            gone.append(row)
        except OSError:
            logger.exception("the file %s of %s could not be removed; it is tried again", sha256, tenant_id)
    rows.filter(pk__in=gone).delete()


def _in_hours(byte_microseconds: int) -> Decimal:
    units = round(Fraction(byte_microseconds * 10**PLACES, HOUR // MICROSECOND))
    return Context(prec=60).scaleb(Decimal(units), -PLACES)
