"""Quantities: what a month's bills are worked out from, summed no finer than its prices need, and what proves it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db import connection

from tenants import pricing
from tenants.models import Meter
from tenants.pricing import Terms

Quantities = dict[tuple[str, datetime], Decimal]
Row = tuple[datetime, str, str, str, str, Decimal]  # hour, key, deployment, version, meter, quantity

USED = """
SELECT tenant_id, hour, key, deployment, version, meter, quantity FROM tenants_usagehour
WHERE tenant_id = ANY(%(tenants)s) AND hour >= %(start)s AND hour < %(end)s
"""
SUMS = """
SELECT tenant_id, meter, width_bucket(hour, %(bounds)s::timestamptz[]) AS place, sum(quantity) AS quantity
FROM used GROUP BY 1, 2, 3
"""
MONTHS = """
SELECT tenant_id, meter, 1, quantity FROM tenants_usagemonth
WHERE tenant_id = ANY(%(tenants)s) AND month = %(start)s::timestamptz AT TIME ZONE 'UTC' AND meter <> ALL(%(meters)s)
"""
# Days amid which a price or a plan begins are read by the hour.
DAYS = """
SELECT tenant_id, meter, width_bucket(at, %(bounds)s::timestamptz[]), sum(quantity) FROM (
    SELECT tenant_id, meter, day::timestamp AT TIME ZONE 'UTC' AS at, quantity FROM tenants_usageday
    WHERE tenant_id = ANY(%(tenants)s) AND day >= (%(start)s::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (%(end)s::timestamptz AT TIME ZONE 'UTC')::date AND day <> ALL(%(split)s::date[])
        AND meter = ANY(%(meters)s)
    UNION ALL
    SELECT tenant_id, meter, hour, quantity FROM tenants_usagehour
    WHERE tenant_id = ANY(%(tenants)s) AND hour = ANY(%(hours)s::timestamptz[]) AND meter = ANY(%(meters)s)
) AS used GROUP BY 1, 2, 3
"""
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
    """The quantities of a month by tenant, from the months of the rollup, or from its days and hours where prices or
    plans change amid them. Needs a scope that sees their rows.
    """
    found: dict[str, Quantities] = {}
    for meters, some in _by_what_changes(terms).items():
        apart = _read(DAYS, some, meters) if meters else []
        for tenant, meter, hour, quantity in [*_read(MONTHS, some, meters), *apart]:
            found.setdefault(tenant, {})[meter, hour] = quantity
    return found


def proven(terms: Mapping[str, Terms]) -> dict[str, Proven]:
    """The quantities of a month by tenant, with the sha256 of their rows."""
    found: dict[str, Proven] = {}
    digests: dict[str, str] = {}
    for tenant, meter, hour, quantity, digest in _read(PROVEN, terms):
        if meter is None:
            digests[tenant] = digest
        else:
            found.setdefault(tenant, Proven()).quantities[meter, hour] = quantity
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


def _by_what_changes(terms: Mapping[str, Terms]) -> dict[tuple[str, ...], dict[str, Terms]]:
    """The tenants by the meters that do not have one price all month: those alone are read by days."""
    changing: dict[int, tuple[str, ...]] = {}
    found: dict[tuple[str, ...], dict[str, Terms]] = {}
    for tenant, each in terms.items():
        meters = changing.get(id(each))
        if meters is None:
            meters = changing[id(each)] = _changing(each)
        found.setdefault(meters, {})[tenant] = each
    return found


def _changing(terms: Terms) -> tuple[str, ...]:
    """The meters whose price, or plan, changes amid the month."""
    if len(terms.plans) > 1:
        return tuple(Meter.values)
    days = {price.valid_from: pricing.midnight(price.valid_from) for price in terms.prices}
    return tuple(
        sorted({price.meter for price in terms.prices if terms.start < days[price.valid_from] < terms.end} - {""})
    )


def _read(statement: str, terms: Mapping[str, Terms], meters: Sequence[str] = ()) -> list[Any]:
    """The rows, each sum with the hour at which its price may have begun to hold; the terms are of one month."""
    if not terms:
        return []
    one = next(iter(terms.values()))
    alike = {id(each): each for each in terms.values()}.values()
    bounds = sorted({one.start}.union(*(each.bounds() for each in alike)))
    split = sorted({bound.date() for bound in bounds if bound != pricing.midnight(bound.date())})
    hours = [pricing.midnight(day) + timedelta(hours=hour) for day in split for hour in range(24)]
    values: dict[str, Any] = {"start": one.start, "end": one.end, "tenants": list(terms), "bounds": bounds}
    values["meters"] = list(meters)
    with connection.cursor() as cursor:
        cursor.execute(statement, values | {"split": split, "hours": hours})
        rows = cursor.fetchall()
    return [(tenant, meter, bounds[place - 1] if place else None, *rest) for tenant, meter, place, *rest in rows]
