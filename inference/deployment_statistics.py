"""Statistics of deployments: brought by every server process each few seconds, kept as minutes and hours, read back.

They are for people who look after a deployment; what is billed is in the ledger (`tenants/ledger/usage.py`), which
loses nothing. A process that is killed takes the last seconds of its statistics along.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.db import connection
from psycopg2.extras import execute_values

from inference.models import Deployment, DeploymentStatistics, Width
from inference.plane.statistics import no_counts, quantile
from tenants import scoping

LENGTHS = {Width.MINUTE: timedelta(minutes=1), Width.HOUR: timedelta(hours=1)}
KEPT = {Width.MINUTE: timedelta(days=2), Width.HOUR: timedelta(days=90)}
FORGOTTEN_AT_ONCE = 10_000
COUNTS = (
    "answered", "client_errors", "server_errors", "rows", "batches", "batch_rows", "cache_hits", "queue_us",
    "compute_us", "total_us",
)  # fmt: skip


@dataclass(slots=True)
class Counts:
    """Sums over some time, durations in microseconds; the histogram has the answers by bucket."""

    answered: int = 0
    client_errors: int = 0
    server_errors: int = 0
    rows: int = 0
    batches: int = 0
    batch_rows: int = 0
    cache_hits: int = 0
    queue_us: int = 0
    compute_us: int = 0
    total_us: int = 0
    histogram: dict[int, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        """Takes in the sums of another time, or of another version."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for index, count in other.histogram.items():
            self.histogram[index] = self.histogram.get(index, 0) + count

    @property
    def requests(self) -> int:
        """Whatever came to an answer or a refusal."""
        return self.answered + self.client_errors + self.server_errors

    @property
    def mean_batch(self) -> float | None:
        return self.batch_rows / self.batches if self.batches else None

    @property
    def mean_queue_ms(self) -> float | None:
        return self._mean_ms(self.queue_us)

    @property
    def mean_compute_ms(self) -> float | None:
        return self._mean_ms(self.compute_us)

    @property
    def p50_ms(self) -> float | None:
        return self._quantile(0.5)

    @property
    def p95_ms(self) -> float | None:
        return self._quantile(0.95)

    @property
    def p99_ms(self) -> float | None:
        return self._quantile(0.99)

    def _mean_ms(self, microseconds: int) -> float | None:
        return microseconds / self.answered / 1000 if self.answered else None

    def _quantile(self, share: float) -> float | None:
        counts = no_counts()
        for index, count in self.histogram.items():
            counts[index] += count
        return quantile(counts, share)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a process counted in one piece of a minute: by tenant's id, deployment's name, and version or nothing.

    Parcels of one source come with growing numbers.
    """

    source: str
    number: int
    at: datetime
    counts: Mapping[tuple[str, str, str], Counts]


@dataclass(frozen=True, slots=True)
class Window:
    """The last so many minutes or hours of a deployment: all together, by version, and by time, the oldest first.

    A minute or hour without requests is not there.
    """

    width: Width
    start: datetime
    end: datetime
    total: Counts
    versions: dict[str, Counts]
    times: dict[datetime, Counts]


def take(*, parcel: Parcel) -> bool:
    """Adds a parcel to the sums in one transaction; false if it was there already."""
    with scoping.operator():
        if not _is_new(parcel):
            return False
        _add(parcel)
    return True


def last(*, deployment: Deployment, width: Width, count: int, now: datetime, version: str | None = None) -> Window:
    """The last so many minutes or hours, the one that runs included; of one version if it is named.

    What an earlier deployment of the same name answered is not part of it.
    """
    end = _floor(now, width) + LENGTHS[width]
    start = end - count * LENGTHS[width]
    window = Window(width, start, end, Counts(), {}, {})
    rows = DeploymentStatistics.objects.for_tenant(deployment.tenant_id).filter(
        deployment=deployment.name, width=width, start__lt=end,
        start__gte=max(start, _floor(deployment.created_at, width)),
    )  # fmt: skip
    if version is not None:
        rows = rows.filter(version=version)
    for row in rows.order_by("start", "version"):
        counts = Counts(
            **{name: getattr(row, name) for name in COUNTS},
            histogram={int(index): count for index, count in row.histogram.items()},
        )
        for sums in (
            window.total,
            window.versions.setdefault(row.version, Counts()),
            window.times.setdefault(row.start, Counts()),
        ):
            sums.add(counts)
    return window


def forget_old(*, now: datetime) -> int:
    """Removes minutes and hours that are too old, some at a time; says how many."""
    removed = 0
    with scoping.operator(), connection.cursor() as cursor:
        for width, kept in KEPT.items():
            cursor.execute(FORGET, [width.value, now - kept, FORGOTTEN_AT_ONCE])
            removed += cursor.rowcount
        cursor.execute("DELETE FROM inference_statisticssource WHERE at < %s", [now - KEPT[Width.MINUTE]])
    return removed


# Another process that forgets at the same time takes other rows.
FORGET = """
DELETE FROM inference_deploymentstatistics WHERE id IN (
    SELECT id FROM inference_deploymentstatistics WHERE width = %s AND start < %s ORDER BY start LIMIT %s
    FOR UPDATE SKIP LOCKED)
"""
SEEN = """
INSERT INTO inference_statisticssource AS known (id, parcel, at) VALUES (%s, %s, %s)
ON CONFLICT (id) DO UPDATE SET parcel = excluded.parcel, at = excluded.at WHERE known.parcel < excluded.parcel
"""
ADD = f"""
INSERT INTO inference_deploymentstatistics AS sum
    (tenant_id, deployment, width, start, version, {", ".join(COUNTS)}, histogram) VALUES %s
ON CONFLICT (tenant_id, deployment, width, start, version) DO UPDATE SET
    {", ".join(f"{name} = sum.{name} + excluded.{name}" for name in COUNTS)},
    histogram = (
        SELECT coalesce(jsonb_object_agg(bucket, count), '{{}}') FROM (
            SELECT bucket, sum(count::bigint) AS count FROM (
                SELECT * FROM jsonb_each_text(sum.histogram)
                UNION ALL SELECT * FROM jsonb_each_text(excluded.histogram)
            ) AS both_of (bucket, count) GROUP BY bucket
        ) AS added
    )
"""  # noqa: S608 - names of columns only


def _is_new(parcel: Parcel) -> bool:
    """Whether this transaction is the one that brings the parcel; waits for another that may be."""
    with connection.cursor() as cursor:
        cursor.execute(SEEN, [parcel.source, parcel.number, parcel.at])
        return bool(cursor.rowcount)


def _add(parcel: Parcel) -> None:
    """In one statement, in the order of the keys: two processes that meet wait for each other, and never in a ring."""
    rows = sorted(_rows(parcel), key=lambda row: row[:5])
    if rows:
        with connection.cursor() as cursor:
            execute_values(cursor.cursor, ADD, rows, page_size=len(rows))


def _rows(parcel: Parcel) -> Iterable[tuple[Any, ...]]:
    for (tenant_id, deployment, version), counts in parcel.counts.items():
        sums = [getattr(counts, name) for name in COUNTS]
        histogram = orjson.dumps(counts.histogram, option=orjson.OPT_NON_STR_KEYS).decode()
        for width in LENGTHS:
            yield (tenant_id, deployment, width.value, _floor(parcel.at, width), version, *sums, histogram)


def _floor(at: datetime, width: Width) -> datetime:
    """The beginning of the minute or hour, in UTC."""
    at = at.astimezone(UTC).replace(second=0, microsecond=0)
    return at if width == Width.MINUTE else at.replace(minute=0)
