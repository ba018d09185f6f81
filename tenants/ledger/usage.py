"""The ledger: usage events arrive in segments, each exactly once, and become hourly sums.

An event is framed for a file that may be torn anywhere: uint32 length of the payload and uint32 CRC32C of it, both
little-endian, then the payload: JSON of `[id, at_ms, tenant, key, deployment, version, {meter: quantity}]`.
"""

import logging
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import google_crc32c
import orjson
from django.db import connection
from django.utils import timezone
from psycopg2.extras import execute_values

from tenants import scoping
from tenants.ledger import archive, producers
from tenants.ledger.archive import Archived
from tenants.ledger.producers import blocking, close_producer, complete_until, open_producer
from tenants.ledger.usage_sums import Sums
from tenants.ledger.usage_totals import HOUR_MS, MINUTE_MS, Quantity, Series, Totals
from tenants.limits import quota_periods, quotas
from tenants.limits.quota_limits import PREDICTION_PERIODS
from tenants.limits.quotas import Use
from tenants.models import Meter, UsageSegment

__all__ = [
    "Brought", "UsageEvent", "blocking", "close_producer", "complete_until", "decode", "encode", "open_producer",
    "record", "take_segment", "take_segments",
]  # fmt: skip

HEADER = struct.Struct("<II")
EPOCH = date(1970, 1, 1).toordinal()
COMPUTE_US = "compute_us"  # Microseconds in an event, summed into milliseconds.
METERS = frozenset({*Meter.values, COMPUTE_US} - {Meter.COMPUTE_MS})
WHOLE = frozenset({Meter.PREDICTIONS.value, COMPUTE_US})  # A part of a microsecond would be rounded in the rollup.
DECIMALS = Decimal("1e-12")  # What the column keeps, NUMERIC(38,12).
EXACT = Context(prec=76, rounding=ROUND_HALF_EVEN)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """What one answered request, or one piece of background work, used. `at_ms` is Unix time in milliseconds."""

    id: str
    at_ms: int
    tenant: str
    key: str
    deployment: str
    version: str
    meters: Mapping[str, int | Decimal]


class NotAnEvent(ValueError):
    """A whole frame with a right checksum holds something else than an event: another program wrote it."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A segment as its producer brings it. All of the producer's events of before the watermark have arrived then.

    With `sums`, which were added up when the events were written, they are not read again.
    """

    id: str
    data: bytes
    watermark: datetime | None
    sums: Sums | None = None


def encode(event: UsageEvent) -> bytes:
    """The event's frame."""
    meters = {str(meter): _written(meter, quantity) for meter, quantity in event.meters.items()}
    payload = orjson.dumps(
        [event.id, event.at_ms, event.tenant, event.key, event.deployment, event.version, meters]
    )  # fmt: skip
    return HEADER.pack(len(payload), google_crc32c.value(payload)) + payload


def decode(segment: bytes) -> tuple[list[UsageEvent], int]:
    """The events of the whole frames up to the first bad one, and how many bytes those frames take."""
    rows, good = payloads(segment)
    return [UsageEvent(*row[:6], _read(row[6])) for row in rows], good  # type: ignore[call-arg]


def take_segment(*, segment_id: str, producer: str, data: bytes, watermark: datetime | None) -> bool:
    """Adds a segment's events to the ledger in one transaction; false if it was there already.

    Two processes may bring the same segment at once: one wins, the other waits for its commit and changes nothing.
    """
    return take_segments(producer=producer, segments=[Brought(segment_id, data, watermark)]) == 1


def take_segments(*, producer: str, segments: Sequence[Brought]) -> int:
    """Adds segments of a producer in one transaction, all or none; says how many were not there already."""
    with archive.storing([one.data for one in segments]) as archived:
        totals = {one.id: _totals_of(one) for one in segments}
        sums = _sums_of(totals.values())
    with scoping.operator():
        archive.hold(archived)
        new = _insert(producer, {one.id: kept for one, kept in zip(segments, archived, strict=True)}, totals)
        if new:
            if new != totals.keys():  # some have been brought by another process, or before
                sums = _sums_of([totals[segment_id] for segment_id in new])
            _add_to_rollup(sums)
            quotas.settle(producer=producer, used=sums.used)
            watermark = max((one.watermark for one in segments if one.watermark), default=None)
            if watermark is not None:
                producers.move_watermark(producer=producer, watermark=watermark)
        return len(new)


def record(*, events: Iterable[UsageEvent], producer: str, segment_id: str) -> bool:
    """Adds events that are born in the caller's transaction, with it and under the same promise.

    Call it once and last in a transaction, with times of less than `producers.GRACE` ago where the producer is not
    known by `open_producer`: its rows are locked in sorted order only within one call.
    """
    open_producer(producer=producer, now=timezone.now(), records_at_once=True)
    return take_segment(
        segment_id=segment_id, producer=producer, data=b"".join(encode(event) for event in events), watermark=None
    )


def record_job(
    *, job: str, tenant: str, asked_by: str, meter: Meter, quantity: Quantity, version: str, now: datetime,
    producer: str, deployment: str = "",
) -> bool:  # fmt: skip
    """Adds what a job used, once a job, on the bill of the key that asked for it; like `record`."""
    kind, _, key = asked_by.partition(":")
    event = UsageEvent(
        id=job,
        at_ms=int(now.timestamp() * 1000),
        tenant=tenant,
        key=key if kind == "key" else "",
        deployment=deployment,
        version=version,
        meters={meter: quantity},
    )
    return record(events=[event], producer=producer, segment_id=f"{producer}:{job}")


def _written(meter: str, quantity: Quantity) -> int | str:
    if meter not in METERS:
        raise ValueError(f"an event counts {meter!r}; expected one of {', '.join(sorted(METERS))}")
    if type(quantity) is int:
        if quantity < 0:
            raise ValueError(f"an event counts {quantity} {meter}; expected 0 or more")
        return quantity
    if meter in WHOLE:
        raise ValueError(f"an event counts {quantity!r} {meter}; expected an int, 0 or more")
    if not isinstance(quantity, Decimal) or not quantity.is_finite() or quantity < 0:
        raise ValueError(f"an event counts {quantity!r} {meter}; expected an int or a finite Decimal, 0 or more")
    return f"{EXACT.quantize(quantity, DECIMALS):f}"


def _read(meters: Mapping[str, int | str]) -> dict[str, Quantity]:
    return {meter: Decimal(value) if isinstance(value, str) else value for meter, value in meters.items()}


def payloads(segment: bytes) -> tuple[list[list[Any]], int]:
    """The payloads as they were written, parsed in one go: four times as fast as one by one."""
    payloads = []
    position, end = 0, len(segment)
    unpack, size, checksum = HEADER.unpack_from, HEADER.size, google_crc32c.value
    while position + size <= end:
        length, claimed = unpack(segment, position)
        start = position + size
        payload = segment[start : start + length]
        # No event is empty: a run of zeros, as a crash may leave it, would pass as frames otherwise.
        if length == 0 or len(payload) < length or checksum(payload) != claimed:
            break
        payloads.append(payload)
        position = start + length
    try:
        rows: list[list[Any]] = orjson.loads(b"[" + b",".join(payloads) + b"]")
    except orjson.JSONDecodeError as error:
        raise NotAnEvent(f"a frame holds no JSON: {error}") from error
    return rows, position


def _totals(rows: Sequence[Sequence[Any]]) -> Totals:
    quantities: dict[Series, dict[str, Quantity]] = {}
    predictions: dict[tuple[str, int, str, str], int] = {}
    times = []
    with localcontext(EXACT):
        for _, at_ms, tenant, key, deployment, version, meters in rows:
            times.append(at_ms)
            series = (tenant, at_ms // HOUR_MS, key, deployment, version)
            sums = quantities.get(series)
            if sums is None:
                sums = quantities[series] = {}
            for meter, quantity in meters.items():
                if quantity.__class__ is str:
                    quantity = _finite(quantity)
                sums[meter] = sums.get(meter, 0) + quantity
            if "predictions" in meters:
                minute = (tenant, at_ms // MINUTE_MS, key, deployment)
                predictions[minute] = predictions.get(minute, 0) + meters["predictions"]
    return Totals(
        events=len(times),
        first_ms=min(times, default=None),
        last_ms=max(times, default=None),
        quantities=quantities,
        predictions=predictions,
    )


def _finite(text: str) -> Decimal:
    quantity = Decimal(text)
    if not quantity.is_finite() or quantity < 0:
        raise ValueError(f"a quantity is {text!r}; expected a finite number, 0 or more")
    return quantity


def _totals_of(segment: Brought) -> Totals:
    if segment.sums is not None and segment.sums.size == len(segment.data):
        return segment.sums.totals()
    rows, good = payloads(segment.data)
    if good < len(segment.data):
        logger.warning("segment %s: %d of its %d bytes are whole frames", segment.id, good, len(segment.data))
    try:
        return _totals(rows)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise NotAnEvent(f"a frame holds JSON that is no event: {error}") from error


@dataclass(frozen=True, slots=True)
class _Sums:
    """What segments add to the ledger: rows of the rollup as JSON texts, each in the order of its keys, and quotas."""

    hours: str
    days: str
    months: str
    used: dict[Use, int]


def _sums_of(totals: Iterable[Totals]) -> _Sums:
    merged = _merged(totals)
    hours: list[Row] = []
    for series, sums in merged.quantities.items():
        for name, quantity in sums.items():
            hours.append((*series, *stored(name, quantity)))
    hours.sort(key=lambda row: row[:6])
    days = _added_up((tenant, hour // 24, *rest) for tenant, hour, *rest in hours)
    months = _added_up((tenant, _month(day), meter, used) for tenant, day, _, _, _, meter, used in days)
    return _Sums(_json(HOURS, hours), _json(DAYS, days), _json(MONTHS, months), _used(merged))


def _merged(totals: Iterable[Totals]) -> Totals:
    """The sums of several segments."""
    merged = Totals()
    with localcontext(EXACT):
        for one in totals:
            for series, sums in one.quantities.items():
                known = merged.quantities.setdefault(series, {})
                for meter, quantity in sums.items():
                    known[meter] = known.get(meter, 0) + quantity
            for minute, count in one.predictions.items():
                merged.predictions[minute] = merged.predictions.get(minute, 0) + count
    return merged


INSERT = """
INSERT INTO tenants_usagesegment
    (id, producer, sha256, archived_as, events, first_event_at, last_event_at, arrived_at) VALUES %s
ON CONFLICT DO NOTHING RETURNING id
"""


def _insert(producer: str, archived: Mapping[str, Archived], totals: Mapping[str, Totals]) -> set[str]:
    """Which of the segments this transaction brings; waits for another that may be bringing one, in their order."""
    now = timezone.now()
    rows = [
        (segment_id, producer, archived[segment_id].sha256, archived[segment_id].name, found.events,
         _time(found.first_ms), _time(found.last_ms), now)
        for segment_id, found in sorted(totals.items())
    ]  # fmt: skip
    with connection.cursor() as cursor, connection.wrap_database_errors:
        new = {row[0] for row in execute_values(cursor.cursor, INSERT, rows, page_size=len(rows), fetch=True)}
    _warn_of_others({one: archived[one].sha256 for one in totals.keys() - new})
    return new


def _warn_of_others(known: Mapping[str, str]) -> None:
    """Segments that were there already must have been the same ones."""
    for segment in UsageSegment.objects.filter(pk__in=known) if known else ():
        if segment.sha256 != known[segment.pk]:
            came, taken = known[segment.pk], segment.sha256
            logger.error("segment %s came again with other content: %s, taken was %s", segment.pk, came, taken)


# The rows come as one JSON text: four thousand of them as parameters took as long as all the rest.
ADD = """
INSERT INTO tenants_usagehour AS sum (tenant_id, hour, key, deployment, version, meter, quantity)
SELECT new.tenant, to_timestamp(new.hour * 3600), new.key, new.deployment, new.version, new.meter, new.quantity
FROM json_to_recordset(%s) AS new (tenant text, hour bigint, key text, deployment text, version text, meter text,
                                   quantity numeric)
ON CONFLICT (tenant_id, hour, key, deployment, version, meter) DO UPDATE SET quantity = sum.quantity + excluded.quantity
"""
ADD_DAYS = """
INSERT INTO tenants_usageday AS sum (tenant_id, day, key, deployment, version, meter, quantity)
SELECT new.tenant, date '1970-01-01' + new.day, new.key, new.deployment, new.version, new.meter, new.quantity
FROM json_to_recordset(%s) AS new (tenant text, day integer, key text, deployment text, version text, meter text,
                                   quantity numeric)
ON CONFLICT (tenant_id, day, key, deployment, version, meter) DO UPDATE SET quantity = sum.quantity + excluded.quantity
"""
ADD_MONTHS = """
INSERT INTO tenants_usagemonth AS sum (tenant_id, month, meter, quantity)
SELECT new.tenant, new.month, new.meter, new.quantity
FROM json_to_recordset(%s) AS new (tenant text, month date, meter text, quantity numeric)
ON CONFLICT (month, tenant_id, meter) DO UPDATE SET quantity = sum.quantity + excluded.quantity
"""
HOURS = ("tenant", "hour", "key", "deployment", "version", "meter", "quantity")
DAYS = ("tenant", "day", "key", "deployment", "version", "meter", "quantity")
MONTHS = ("tenant", "month", "meter", "quantity")
Row = tuple[Any, ...]


def _add_to_rollup(sums: _Sums) -> None:
    """Hours, their days, their months, each in the order of its keys: two shippers that meet never wait in a ring."""
    with connection.cursor() as cursor:
        for statement, rows in ((ADD, sums.hours), (ADD_DAYS, sums.days), (ADD_MONTHS, sums.months)):
            cursor.execute(statement, [rows])


def _json(columns: Sequence[str], rows: Iterable[Row]) -> str:
    return orjson.dumps([dict(zip(columns, (*row, f"{quantity:f}"), strict=True)) for *row, quantity in rows]).decode()


def _month(day: int) -> str:
    """The first day of the month that a day, counted since 1970, lies in."""
    return f"{date.fromordinal(EPOCH + day):%Y-%m}-01"


def _added_up(rows: Iterable[Row]) -> list[Row]:
    """Rows whose last column is a quantity, added up by the others, in their order."""
    sums: dict[Row, Decimal] = {}
    with localcontext(EXACT):
        for *key, quantity in rows:
            sums[tuple(key)] = sums.get(tuple(key), Decimal(0)) + quantity
    return [(*key, sums[key]) for key in sorted(sums)]


def stored(meter: str, quantity: Quantity) -> tuple[str, Decimal]:
    if meter not in METERS:
        raise NotAnEvent(f"an event counts {meter!r}; expected one of {', '.join(sorted(METERS))}")
    if isinstance(quantity, float) or quantity < 0:
        raise NotAnEvent(f"events count {quantity!r} {meter}; expected exact numbers, 0 or more")
    if meter == COMPUTE_US:
        return Meter.COMPUTE_MS, EXACT.scaleb(Decimal(quantity), -3)
    return meter, Decimal(quantity)


def _used(totals: Totals) -> dict[Use, int]:
    used: dict[tuple[str, str, str, datetime], int] = {}
    starts: dict[int, list[tuple[str, datetime]]] = {}
    for (tenant, minute, key, deployment), count in totals.predictions.items():
        periods = starts.get(minute)
        if periods is None:
            moment = datetime.fromtimestamp(minute * 60, UTC)
            periods = starts[minute] = [
                (period, quota_periods.start_of(period, moment)) for period in PREDICTION_PERIODS
            ]
        for scope in quotas.scopes_of(key=key, deployment=deployment):
            for period, start in periods:
                place = (tenant, scope, period, start)
                used[place] = used.get(place, 0) + count
    return {Use(*place): count for place, count in used.items()}


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
