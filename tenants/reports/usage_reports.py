"""Usage reports: sums over buckets of time and groups, read from the rollup only: its hours, or their days."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import CharField, F, Func, Q, QuerySet, Sum, Value
from django.db.models.functions import Trunc

from tenants.models import ApiKey, Tenant, UsageDay, UsageHour

WIDTHS = ("hour", "day", "month")
GROUPS = ("key", "deployment", "model", "version", "meter")
# How many days a report may span: one of hours has 24 times as many buckets as one of days.
MOST_DAYS = {"hour": 31, "day": 366, "month": 3660}
ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Report:
    """What is asked for: the hours from `start` until before `end`, in buckets, by groups, of rows that match.

    `matching` names groups with the values of which a row must have one.
    """

    start: datetime
    end: datetime
    width: str
    groups: tuple[str, ...]
    matching: Mapping[str, Collection[str]]


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
    rows = _sums(tenant, report, beyond=beyond, backwards=backwards)
    return list(_totals(report, rows[:count]))


def every_total(*, tenant: Tenant, report: Report) -> Iterator[Total]:
    """All sums in their order, a few thousand in memory at a time; needs the tenant's scope until the last one."""
    rows = _sums(tenant, report, beyond=None, backwards=False)
    return _totals(report, rows.iterator(chunk_size=ROWS_AT_ONCE))


def key_names(*, tenant: Tenant, ids: Iterable[str] | None = None) -> dict[str, str]:
    """The names of the tenant's keys by id: of all, or of those that are given."""
    keys = ApiKey.objects.for_tenant(tenant)
    if ids is not None:
        keys = keys.filter(pk__in=set(ids))
    return dict(keys.values_list("pk", "name"))


def bucket_end(width: str, start: datetime) -> datetime:
    """The first moment after the bucket that begins at `start`."""
    if width == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return start + (timedelta(hours=1) if width == "hour" else timedelta(days=1))


def _sums(
    tenant: Tenant, report: Report, *, beyond: tuple[Any, ...] | None, backwards: bool
) -> QuerySet[Any, dict[str, Any]]:
    columns = ("bucket", *report.groups)
    start, end = report.start, report.end
    rows: QuerySet[Any]
    if beyond is not None:
        # Said in the index's own column, too, so that a page costs the same wherever it lies.
        start, end = (start, min(end, bucket_end(report.width, beyond[0]))) if backwards else (beyond[0], end)
    if _in_whole_days(report):
        rows = UsageDay.objects.for_tenant(tenant).filter(day__gte=start.date(), day__lt=end.date())
        rows = rows.annotate(bucket=F("day") if report.width == "day" else Trunc("day", "month"))
        beyond = beyond and (beyond[0].date(), *beyond[1:])
    else:
        rows = UsageHour.objects.for_tenant(tenant).filter(hour__gte=start, hour__lt=end)
        bucket = F("hour") if report.width == "hour" else Trunc("hour", report.width, tzinfo=UTC)
        rows = rows.annotate(bucket=bucket)
    rows = rows.annotate(
        model=Func(F("version"), Value("@"), Value(1), function="split_part", output_field=CharField())
    )  # fmt: skip
    rows = rows.filter(**{f"{group}__in": list(values) for group, values in report.matching.items()})
    if beyond is not None:
        rows = rows.filter(_beyond(columns, beyond, "lt" if backwards else "gt"))
    grouped: QuerySet[Any, dict[str, Any]] = rows.values(*columns).annotate(total=Sum("quantity"))
    return grouped.order_by(*(f"-{column}" if backwards else column for column in columns))


def _in_whole_days(report: Report) -> bool:
    """Whether the days' sums have all that is asked for."""
    return report.width != "hour" and all(moment.time() == time() for moment in (report.start, report.end))


def _beyond(columns: tuple[str, ...], place: tuple[Any, ...], direction: str) -> Q:
    """Rows after (or before) a place in the order of the columns: (a, b) > (x, y) written out."""
    condition, equal = Q(), Q()
    for column, value in zip(columns, place, strict=True):
        condition |= equal & Q(**{f"{column}__{direction}": value})
        equal &= Q(**{column: value})
    return condition


def _totals(report: Report, rows: Iterable[dict[str, Any]]) -> Iterator[Total]:
    """The rows as totals; those of one bucket, which follow each other, share its times."""
    of, bucket, start, end = None, report.start, report.start, report.end
    for row in rows:
        if row["bucket"] != of:
            of, bucket = row["bucket"], _moment(row["bucket"])
            start, end = max(bucket, report.start), min(bucket_end(report.width, bucket), report.end)
        groups = {group: row[group] for group in report.groups}
        yield Total(bucket=bucket, start=start, end=end, groups=groups, quantity=row["total"])


def _moment(bucket: date) -> datetime:
    return bucket if isinstance(bucket, datetime) else datetime.combine(bucket, time(), UTC)
