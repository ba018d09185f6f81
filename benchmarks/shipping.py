"""One shipper's events a second into the rollup, beside a plain COPY of the same events as rows, in one run.

Shipping is all of it: read the segment, archive it (compressed, synced), commit its sums, remove its file. The sums are
those that a living process has added up while it wrote; of a process that died the events are read again for them.
The rows for COPY are text that lies ready, in a table without an index.
"""

import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from tests.live import ROOT, LiveSite

EVENTS = 300_000
ROUNDS = 3
SERIES = (10, 1000)
WANTED = 200_000
AT_MS = 1_790_000_000_000
HOUR_MS = 3_600_000


def measure(site: LiveSite) -> list[Figure]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.shipping"], cwd=ROOT, env=site.env, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures = []
    for series, one in found.items():
        figures += [
            Figure(f"one shipper, {series} series an hour", one["shipped"], "events/s", at_least=WANTED),
            Figure("  a second of processor time of its process", one["by_processor"], "events/s"),
            Figure("  of a process that died: its events are read again", one["adopted"], "events/s"),
            Figure(f"  COPY of the same {EVENTS:,} events as rows", one["copied"], "events/s"),
            Figure("  bytes of the archive an event", one["archived_bytes"] / EVENTS, "bytes"),
            Figure("  rows of the rollup after the first round", one["rows"][0], "rows"),
            Figure(f"  and after {ROUNDS}, each with as many events of the same hours", one["rows"][-1], "rows"),
            Figure("  rollup and segments on disk after all rounds", one["bytes"] / 1e6, "MB"),
            Figure("  the same events as rows on disk", one["copied_bytes"] / 1e6, "MB"),
        ]
    return figures


def main() -> None:
    import django

    django.setup()
    print(json.dumps({str(series): _measured(series) for series in SERIES}))


def _measured(series: int) -> dict[str, Any]:
    from django.db import connection

    tenants = _tenants(max(1, series // 10), prefix=f"bench-{series}")
    shipped, by_processor, adopted, copied, rows = [], [], [], [], []
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bench_events")
        cursor.execute(
            "CREATE TABLE bench_events (id text, at_ms bigint, tenant text, key text, deployment text, version text, "
            "requests int, predictions int, compute_us int, input_bytes int)"
        )
    before = _size("tenants_usagehour") + _size("tenants_usagesegment")
    for number in range(ROUNDS):
        events = list(_events(tenants, series, seed=number))
        with tempfile.TemporaryDirectory() as folder:
            seconds, used = _ship(Path(folder), events, counted=True)
            adopted.append(EVENTS / _ship(Path(folder), events, counted=False)[0])
        shipped.append(EVENTS / seconds)
        by_processor.append(EVENTS / used)
        copied.append(EVENTS / _copy(events))
        rows.append(_rows(tenants))
    return {
        "shipped": statistics.median(shipped),
        "by_processor": statistics.median(by_processor),
        "adopted": statistics.median(adopted),
        "copied": statistics.median(copied),
        "rows": rows,
        "archived_bytes": _archived_bytes() / ROUNDS,
        "bytes": _size("tenants_usagehour") + _size("tenants_usagesegment") - before,
        "copied_bytes": _size("bench_events"),
    }


def _tenants(count: int, *, prefix: str) -> list[str]:
    """Tenants whose month has a bucket, as those who predict have."""
    from django.utils import timezone

    from tenants import accounts, scoping
    from tenants.limits import quotas
    from tenants.models import Plan

    with scoping.operator():
        plan = Plan.objects.get(code="standard")
        ids = [
            accounts.create_tenant(name=f"{prefix}-{n}", plan=plan, actor="operator:bench", now=timezone.now()).pk
            for n in range(count)
        ]
    for tenant in ids:
        quotas.lease(
            tenant_id=tenant, producer="bench", asks=[quotas.Ask("tenant", "predictions", "month", wanted=1, minimum=1)]
        )
    return ids


def _events(tenants: list[str], series: int, *, seed: int) -> Iterator[tuple[Any, ...]]:
    dice = random.Random(seed)
    for number in range(EVENTS):
        which = dice.randrange(series)
        yield (
            f"01a21400-{seed:04x}-7{dice.randrange(4096):03x}-a{dice.randrange(4096):03x}-{number:012x}",
            AT_MS // HOUR_MS * HOUR_MS + number % HOUR_MS,
            tenants[which % len(tenants)],
            f"key_01m8a{which % 7:021d}",
            f"deployment-{which}",
            f"model-{which}@3",
            1,
            dice.randrange(1, 9),
            dice.randrange(100, 9000),
            dice.randrange(50, 5000),
        )


def _ship(root: Path, events: list[tuple[Any, ...]], *, counted: bool) -> tuple[float, float]:
    """Seconds for all of them, and seconds of processor time of this process, which others on the machine leave be."""
    from inference.plane import shipping
    from inference.plane.spool import Segment, Spool, frame

    closed: list[Segment] = []
    spool = Spool(root, durable=False, in_flight_seconds=30, closed=closed.append)
    for event in events:
        identity, at_ms, tenant, key, deployment, version, *counts = event
        meters = '{{"requests":{},"predictions":{},"compute_us":{},"input_bytes":{}}}'.format(*counts)
        payload = f'["{identity}",{at_ms},"{tenant}","{key}","{deployment}","{version}",{meters}]'.encode()
        figures = (at_ms, tenant, key, deployment, version, *counts[1:])
        spool.append(frame(payload), [figures] if counted else ())
    spool.rotate()
    begun, used = time.perf_counter(), time.process_time()
    for first in range(0, len(closed), shipping.AT_ONCE):
        shipping.ship(closed[first : first + shipping.AT_ONCE], producer=spool.producer)
    seconds = time.perf_counter() - begun, time.process_time() - used
    spool.release()
    return seconds


def _copy(events: list[tuple[Any, ...]]) -> float:
    from django.db import connection, transaction

    text = io.StringIO("".join("\t".join(map(str, event)) + "\n" for event in events))
    begun = time.perf_counter()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.cursor.copy_expert("COPY bench_events FROM STDIN", text)
    return time.perf_counter() - begun


def _rows(tenants: list[str]) -> int:
    from tenants import scoping
    from tenants.models import UsageHour

    with scoping.operator():
        return UsageHour.across_tenants.filter(tenant__in=tenants).count()


def _size(table: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [table])
        return int(cursor.fetchone()[0])


def _archived_bytes() -> int:
    """Of this run's segments, and takes count of them once."""
    from django.conf import settings

    files = list((Path(settings.FILES_DIR) / "ledger").rglob("*.gz"))
    total = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink()
    return total


if __name__ == "__main__":
    main()
