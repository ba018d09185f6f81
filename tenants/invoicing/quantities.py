"""Quantities: what a month's bills are worked out from, summed no finer than its prices need, and what proves it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db import connection

from tenants import pricing
from tenants.models import Meter
from tenants.pricing import Terms
from tenants.pricing.money import EXACT

HOUR = timedelta(hours=1)
NOTHING_USED = Decimal(0)
Quantities = dict[tuple[str, datetime], Decimal]
Meters = tuple[str, ...]
Row = tuple[datetime, str, str, str, str, Decimal]  # hour, key, deployment, version, meter, quantity

USED = """
SELECT tenant_id, hour, key, deployment, version, meter, quantity FROM tenants_usagehour
WHERE tenant_id = ANY(%(tenants)s) AND hour >= %(start)s AND hour < %(end)s
"""
SUMS = """
SELECT tenant_id, meter, width_bucket(hour, %(bounds)s::timestamptz[]) AS place, sum(quantity) AS quantity
FROM used GROUP BY 1, 2, 3
"""
# One statement, so that all is of the same rows however many events arrive meanwhile: whole months have the place 0.
MONTHS = """
SELECT tenant_id, meter, 0, quantity FROM tenants_usagemonth
WHERE tenant_id = ANY(%(tenants)s) AND month = %(start)s::timestamptz AT TIME ZONE 'UTC' AND meter = ANY(%(priced)s)
"""
PARTS = f"""{MONTHS}
UNION ALL
SELECT tenant_id, meter, width_bucket(day, %(bound_days)s::date[]), sum(quantity) FROM tenants_usageday
WHERE day >= %(first)s AND day <= %(last)s AND day = ANY(%(days)s::date[]) AND tenant_id = ANY(%(tenants)s)
    AND meter = ANY(%(changing)s)
GROUP BY 1, 2, 3
UNION ALL
SELECT tenant_id, meter, width_bucket(hour, %(bounds)s::timestamptz[]), sum(quantity) FROM tenants_usagehour
WHERE tenant_id = ANY(%(tenants)s) AND hour = ANY(%(hours)s::timestamptz[]) AND meter = ANY(%(changing)s)
GROUP BY 1, 2, 3
"""  # noqa: S608
# Because of row-level security the planner expects a two-hundredth of the rows that an operator sees. It would sort
# them to add them up, which takes twice as long as to hash them.
SORT = "SELECT set_config('enable_sort', %s, true)"
MANY = 100
# Two steps, so that no text holds more than the series of an hour. The order is that of bytes, whatever the database's.
HASHES = """
SELECT tenant_id, encode(sha256(convert_to(string_agg(digest, chr(10) ORDER BY hour), 'UTF8')), 'hex') AS digest FROM (
    SELECT tenant_id, hour, encode(sha256(convert_to(string_agg(line, chr(10) ORDER BY line COLLATE "C"), 'UTF8')),
                                   'hex') AS digest
    FROM (
        SELECT tenant_id, hour, concat_ws(chr(9), extract(epoch FROM hour)::bigint, key, deployment, version, meter,
                                          trim_scale(quantity)) AS line
        FROM used
    ) AS lines GROUP BY 1, 2
) AS hours GROUP BY 1
"""
# One statement, so that both are of the same rows however many events arrive meanwhile.
PROVEN = f"""
WITH used AS MATERIALIZED ({USED}), sums AS ({SUMS}), hashes AS ({HASHES})
SELECT tenant_id, meter, place, quantity, NULL FROM sums
UNION ALL SELECT tenant_id, NULL, NULL, NULL, digest FROM hashes
"""  # noqa: S608
NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Proven:
    """A tenant's quantities with the sha256 of the rollup's rows that they are the sums of."""

    quantities: Quantities = field(default_factory=dict)
    rollup_sha256: str = NOTHING


def of(terms: Mapping[str, Terms]) -> dict[str, Quantities]:
    """The quantities of a month by tenant, of the meters that have a price: from the months of the rollup, or from its
    days and hours where prices or plans change amid them. Needs a scope that sees their rows.

    The longest time in which no price begins is not read: it is what the others leave of the month.
    """
    found: dict[str, Quantities] = {}
    for (priced, changing), some in _by_what_changes(terms).items():
        bounds = _bounds(some)
        parts = _Parts.of(bounds, end=next(iter(some.values())).end)
        rest = bounds[parts.longest]
        for tenant, meter, place, quantity in _read(some, priced, changing, parts):
            own = found.get(tenant)
            if own is None:
                own = found[tenant] = {}
            if not place:
                own[meter, rest] = EXACT.add(quantity, own.get((meter, rest), NOTHING_USED))
            else:
                hour = bounds[place - 1]
                own[meter, hour] = EXACT.add(quantity, own.get((meter, hour), NOTHING_USED))
                own[meter, rest] = EXACT.subtract(own.get((meter, rest), NOTHING_USED), quantity)
    return found


def proven(terms: Mapping[str, Terms]) -> dict[str, Proven]:
    """The quantities of a month by tenant, with the sha256 of their rows."""
    found: dict[str, Proven] = {}
    digests: dict[str, str] = {}
    if not terms:
        return {}
    bounds = _bounds(terms)
    for tenant, meter, place, quantity, digest in _rows(PROVEN, terms, bounds=bounds):
        if meter is None:
            digests[tenant] = digest
        else:
            found.setdefault(tenant, Proven()).quantities[meter, bounds[place - 1]] = quantity
    return {tenant: Proven(each.quantities, digests[tenant]) for tenant, each in found.items()}


def rollup_sha256(rows: Iterable[Row]) -> str:
    """The sha256 of a month's rollup of one tenant, as `proven` has PostgreSQL work it out: the sha256 of each hour's
    rows as lines in the order of their bytes, and the sha256 of those in the order of the hours.
    """
    lines = sorted((int(row[0].timestamp()), _line(row)) for row in rows)
    hours = []
    for _, group in groupby(lines, key=lambda line: line[0]):
        hours.append(hashlib.sha256(b"\n".join(text for _, text in group)).hexdigest())
    return hashlib.sha256("\n".join(hours).encode()).hexdigest()


def _line(row: Row) -> bytes:
    hour, *names, quantity = row
    text = f"{quantity:f}"
    shown = text.rstrip("0").rstrip(".") if "." in text else text
    return "\t".join([str(int(hour.timestamp())), *map(str, names), shown]).encode()


def _by_what_changes(terms: Mapping[str, Terms]) -> dict[tuple[Meters, Meters], dict[str, Terms]]:
    """The tenants by the meters that have a price, and by those that do not have one all month: read by days."""
    known: dict[int, tuple[Meters, Meters]] = {}
    found: dict[tuple[Meters, Meters], dict[str, Terms]] = {}
    for tenant, each in terms.items():
        meters = known.get(id(each))
        if meters is None:
            priced = {price.meter for price in each.prices} - {""}
            meters = known[id(each)] = tuple(sorted(priced)), tuple(sorted(priced & _changing(each)))
        found.setdefault(meters, {})[tenant] = each
    return found


def _changing(terms: Terms) -> set[str]:
    """The meters whose price, or plan, changes amid the month."""
    if len(terms.plans) > 1:
        return set(Meter.values)
    days = {price.valid_from: pricing.midnight(price.valid_from) for price in terms.prices}
    return {price.meter for price in terms.prices if terms.start < days[price.valid_from] < terms.end}


def _bounds(terms: Mapping[str, Terms]) -> list[datetime]:
    """The month's first hour and every hour in it at which a price may begin to hold; the terms are of one month."""
    start = next(iter(terms.values())).start
    alike = {id(each): each for each in terms.values()}.values()
    return sorted({start}.union(*(each.bounds() for each in alike)))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is read of a month: all but the longest time between two bounds; by the hour, days amid which one is."""

    bounds: list[datetime]
    longest: int
    days: list[date]
    hours: list[datetime]

    @classmethod
    def of(cls, bounds: list[datetime], *, end: datetime) -> "_Parts":
        ends = [*bounds[1:], end]
        longest = max(range(len(bounds)), key=lambda place: ends[place] - bounds[place])
        read = [
            bounds[place] + number * HOUR
            for place in range(len(bounds))
            if place != longest
            for number in range(pricing.hours_between(bounds[place], ends[place]))
        ]
        split = {bound.date() for bound in bounds if bound != pricing.midnight(bound.date())}
        days = sorted({hour.date() for hour in read} - split)
        return cls(bounds, longest, days, [hour for hour in read if hour.date() in split])


def _read(terms: Mapping[str, Terms], priced: Meters, changing: Meters, parts: _Parts) -> list[Any]:
    """The sums by tenant, meter and place among the bounds, from 1; those of the whole month have the place 0."""
    if not changing or len(parts.bounds) == 1:
        return _rows(MONTHS, terms, priced=list(priced))
    days = parts.days
    return _rows(
        PARTS, terms, priced=list(priced), changing=list(changing), bounds=parts.bounds, days=days, hours=parts.hours,
        bound_days=[bound.date() for bound in parts.bounds], first=min(days, default=None),
        last=max(days, default=None),
    )  # fmt: skip


def _rows(statement: str, terms: Mapping[str, Terms], **values: Any) -> list[Any]:
    one = next(iter(terms.values()))
    given: dict[str, Any] = {"start": one.start, "end": one.end, "tenants": list(terms)}
    with connection.cursor() as cursor:
        if len(terms) > MANY:
            cursor.execute(SORT, ["off"])
        cursor.execute(statement, given | values)
        rows: list[Any] = cursor.fetchall()
        if len(terms) > MANY:
            cursor.execute(SORT, ["on"])
        return rows
