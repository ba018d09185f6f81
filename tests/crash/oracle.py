"""What must hold whatever happened, worked out a second time and naively: from the archived files and bare SQL."""

import contextlib
import gzip
import hashlib
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

import google_crc32c
import psycopg2

from tests.crash.journal import ROWS
from tests.live import LiveSite

Sums = dict[tuple[str, ...], Decimal]


@dataclass
class Ledger:
    """What lies in the archive, and what the database says."""

    events: list[list[Any]] = field(default_factory=list)
    segments: list[tuple[str, str, str, int]] = field(default_factory=list)
    rollup: Sums = field(default_factory=dict)

    @property
    def ids(self) -> Counter[str]:
        return Counter(event[0] for event in self.events)


def read(site: LiveSite) -> Ledger:
    ledger = Ledger()
    with contextlib.closing(_connected(site)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, sha256, archived_as, events FROM tenants_usagesegment")
        ledger.segments = cursor.fetchall()
        cursor.execute("SELECT tenant_id, hour, key, deployment, version, meter, quantity FROM tenants_usagehour")
        for tenant, hour, key, deployment, version, meter, quantity in cursor.fetchall():
            ledger.rollup[tenant, _hour(hour), key, deployment, version, meter] = quantity
    for segment_id, sha256, name, count in ledger.segments:
        data = gzip.decompress((site.var / "files" / name).read_bytes())
        assert hashlib.sha256(data).hexdigest() == sha256, segment_id
        found = list(_events(data))
        assert len(found) == count, segment_id
        ledger.events += found
    return ledger


def check(site: LiveSite, acknowledged: Iterable[str]) -> Ledger:
    """Every acknowledged id exactly once, every other at most once, and the rollup is the sum of the segments."""
    ledger = read(site)
    ids = ledger.ids
    twice = [one for one, count in ids.items() if count > 1]
    assert not twice, f"{len(twice)} ids are there more than once: {twice[:5]}"
    wanted = list(acknowledged)
    assert len(set(wanted)) == len(wanted)
    missing = [one for one in wanted if one not in ids]
    assert not missing, f"{len(missing)} of {len(wanted)} acknowledged ids are missing: {missing[:5]}"
    sums = _sums(ledger.events)
    for series in sums.keys() | ledger.rollup.keys():
        found = (sums.get(series), ledger.rollup.get(series))
        assert found[0] == found[1], f"{series}: {found[0]} in the segments, {found[1]} in the rollup"
    predicted = [event[6] for event in ledger.events if "requests" in event[6]]
    assert all((meters["requests"], meters["predictions"]) == (1, ROWS) for meters in predicted)
    return ledger


def check_quota(site: LiveSite, ledger: Ledger) -> None:
    """The month's buckets have consumed what the events of the month predicted, and nothing is leased any more."""
    with contextlib.closing(_connected(site)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT period_start, consumed, leased FROM tenants_quotabucket WHERE period = 'month'")
        buckets = cursor.fetchall()
    assert buckets
    for start, consumed, leased in buckets:
        month = f"{start.astimezone(UTC):%Y-%m}"
        of_month = [event[6] for event in ledger.events if _hour(_moment(event)).startswith(month)]
        assert (consumed, leased) == (sum(meters.get("predictions", 0) for meters in of_month), 0), month


def spooled(site: LiveSite) -> list[Path]:
    """The segments that have not left the spool."""
    return [path for path in (site.var / "spool").glob("*/*") if path.suffix in (".open", ".closed", ".rejected")]


def _connected(site: LiveSite) -> Any:
    return psycopg2.connect(site.server.get_uri(database=site.database))


def _events(data: bytes) -> Iterable[list[Any]]:
    """One after the other, up to the first that is not whole."""
    at = 0
    while at + 8 <= len(data):
        length, checksum = struct.unpack_from("<II", data, at)
        payload = data[at + 8 : at + 8 + length]
        if not length or len(payload) < length or google_crc32c.value(payload) != checksum:
            return
        yield json.loads(payload)
        at += 8 + length


def _sums(events: Iterable[list[Any]]) -> Sums:
    getcontext().prec = 60
    sums: Sums = defaultdict(Decimal)
    for event in events:
        _, _, tenant, key, deployment, version, meters = event
        hour = _hour(_moment(event))
        for meter, quantity in meters.items():
            if meter == "compute_us":
                sums[tenant, hour, key, deployment, version, "compute_ms"] += Decimal(quantity) / 1000
            else:
                sums[tenant, hour, key, deployment, version, meter] += Decimal(quantity)
    return dict(sums)


def _moment(event: list[Any]) -> datetime:
    return datetime.fromtimestamp(event[1] / 1000, UTC)


def _hour(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H}"
