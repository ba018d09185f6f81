"""Usage reports: sums over buckets of time and groups, read from the hourly rollup only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q, Sum
from django.db.models.functions import Trunc

from tenants.models import Tenant, UsageHour

WIDTHS = ("hour", "day", "month")
GROUPS = ("key", "deployment", "version", "meter")


@dataclass(frozen=True, slots=True)
class Report:
    """What is asked for: the hours from `start` until before `end`, in buckets, by groups, of rows that match."""

    start: datetime
    end: datetime
    width: str
    groups: tuple[str, ...]
    matching: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of one meter over one bucket and group; a group that was not asked for is none."""

    bucket: datetime
    start: datetime
    end: datetime
    groups: Mapping[str, str]
    quantity: Decimal


def totals(
    *, tenant: Tenant, report: Report, beyond: tuple[Any, ...] | None, backwards: bool, count: int
) -> list[Total]:
    """Up to `count` sums in the order of time and groups, from beyond a place in it; needs the tenant's scope."""
    columns = ("bucket", *report.groups)
    rows = (
        UsageHour.objects.for_tenant(tenant)
        .filter(hour__gte=report.start, hour__lt=report.end, **report.matching)
        .annotate(bucket=Trunc("hour", report.width, tzinfo=UTC))
    )
    if beyond is not None:
        rows = rows.filter(_beyond(columns, beyond, "lt" if backwards else "gt"))
    grouped = rows.values(*columns).annotate(total=Sum("quantity"))
    ordered = grouped.order_by(*(f"-{column}" if backwards else column for column in columns))
    return [_total(report, row) for row in ordered[:count]]


def bucket_end(width: str, start: datetime) -> datetime:
    """The first moment after the bucket that begins at `start`."""
    if width == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return start + (timedelta(hours=1) if width == "hour" else timedelta(days=1))


def _beyond(columns: tuple[str, ...], place: tuple[Any, ...], direction: str) -> Q:
    """Rows after (or before) a place in the order of the columns: (a, b) > (x, y) written out."""
    condition, equal = Q(), Q()
    for column, value in zip(columns, place, strict=True):
        condition |= equal & Q(**{f"{column}__{direction}": value})
        equal &= Q(**{column: value})
    return condition


def _total(report: Report, row: dict[str, Any]) -> Total:
    return Total(
        bucket=row["bucket"],
        start=max(row["bucket"], report.start),
        end=min(bucket_end(report.width, row["bucket"]), report.end),
        groups={group: row[group] for group in report.groups},
        quantity=row["total"],
    )
