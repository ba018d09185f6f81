"""Up to when all usage has arrived: who writes events, and has not said so yet."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from tenants.models import UsageProducer

# Their events arrive in the transaction that makes them, so none is ever under way.
AT_ONCE = ("training", "storage", "batch")


@dataclass(frozen=True, slots=True)
class Blocking:
    """A producer, and up to when all its events have arrived."""

    producer: str
    complete_until: datetime


def blocking(end: datetime) -> list[Blocking]:
    """Those of whom events of before `end` may not have arrived, slowest first; empty is everybody's have."""
    found = [one for one in _open() if one.complete_until < end]
    return sorted(found, key=lambda one: (one.complete_until, one.producer))


def complete_until() -> datetime:
    """The time before which no usage is missing."""
    return min([*(one.complete_until for one in _open()), database_now()])


def database_now() -> datetime:
    """The time by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def _open() -> list[Blocking]:
    rows = UsageProducer.objects.filter(drained_at=None).exclude(pk__in=AT_ONCE)
    return [Blocking(row.pk, row.watermark or row.started_at) for row in rows]
