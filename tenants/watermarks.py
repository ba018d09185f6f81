"""Up to when all usage has arrived: who writes events, and has not said so yet."""

from datetime import datetime

from django.db.models import Q

from tenants.models import UsageProducer

# Their events arrive in the transaction that makes them, so none is ever under way.
AT_ONCE = ("training", "storage", "batch")


def blocking(*, end: datetime) -> list[UsageProducer]:
    """The producers of whom events of before `end` may still be under way."""
    behind = Q(watermark=None) | Q(watermark__lt=end)
    spooling = UsageProducer.objects.filter(drained_at=None, started_at__lt=end).exclude(pk__in=AT_ONCE)
    return list(spooling.filter(behind).order_by("pk"))


def complete_until(*, now: datetime) -> datetime:
    """The moment before which all events have arrived, as far as is known now."""
    spooling = UsageProducer.objects.filter(drained_at=None, started_at__lt=now).exclude(pk__in=AT_ONCE)
    known = [min(now, producer.watermark or producer.started_at) for producer in spooling]
    return min(known, default=now)
