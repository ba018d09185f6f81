"""Reports: a month of a tenant with 1,000 series x 744 hours over HTTP, and the operator's reports over 10,000 tenants.

The tables are filled by SQL; the days and months are summed from what lies under them, as the ledger has them. Writes
`benchmarks/results/operator_reports.json`. Takes about three minutes.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2

from benchmarks.figures import Figure
from tests.live import LiveSite, live_site
from tests.publishing import make_key

RESULTS = Path(__file__).parent / "results"
ROUNDS = 7
AT_MOST_MS = 1000.0
SERIES, HOURS, TENANTS = 1000, 744, 10_000
MONTH, LAST = "from=2026-10-01&to=2026-11-01", "to=2026-11-01"
USAGE = {
    "month by meter": f"{MONTH}&bucket_width=month",
    "month by key": f"{MONTH}&bucket_width=month&group_by=key",
    "days by meter": f"{MONTH}&limit=200",
    "days by key": f"{MONTH}&group_by=key&limit=200",
    "days by key, deployment, version": f"{MONTH}&group_by=key,deployment,version&limit=200",
    "hours by key, first page": f"{MONTH}&bucket_width=hour&group_by=key&limit=200",
    "hours by all, first page": f"{MONTH}&bucket_width=hour&group_by=key,deployment,version&limit=200",
    "days of a model": f"{MONTH}&model=model-7&group_by=key&limit=200",
    "days as CSV, by key": f"{MONTH}&group_by=key&format=csv",
}
SCOPE = "SET app.operator = 'on'"
FILL = [
    """INSERT INTO tenants_tenant (id, name, active, created_at, plan_id)
    SELECT 'ten_' || i, 'tenant-' || i, true, '2026-01-01', 'standard' FROM generate_series(1, {tenants}) i""",
    """INSERT INTO tenants_usagehour (tenant_id, hour, key, deployment, version, meter, quantity)
    SELECT id, '2026-10-01'::timestamptz + h * interval '1 hour', 'key_' || (s % 20), 'dep-' || (s / 20),
           'model-' || (s / 20) || '@1', 'predictions', h + s
    FROM generate_series(0, {hours} - 1) h, generate_series(0, {series} - 1) s, tenants_tenant WHERE name = 'large'""",
    """INSERT INTO tenants_usageday (tenant_id, day, key, deployment, version, meter, quantity)
    SELECT tenant_id, (hour AT TIME ZONE 'UTC')::date, key, deployment, version, meter, sum(quantity)
    FROM tenants_usagehour GROUP BY 1, 2, 3, 4, 5, 6""",
    """INSERT INTO tenants_usageday (tenant_id, day, key, deployment, version, meter, quantity)
    SELECT 'ten_' || t, '2026-10-01'::date + d, 'key_1', 'cats', 'cats@1', m, t * 1.25 + d
    FROM generate_series(0, 30) d, generate_series(1, {tenants}) t, unnest(ARRAY['requests', 'predictions',
         'compute_ms', 'input_bytes', 'training_seconds', 'stored_byte_hours']) m""",
    """INSERT INTO tenants_usagemonth (tenant_id, month, meter, quantity)
    SELECT tenant_id, date_trunc('month', day)::date, meter, sum(quantity) FROM tenants_usageday GROUP BY 1, 2, 3""",
]


def measure(site: LiveSite) -> list[Figure]:
    """The operator's reports beside what is wanted of them; sets Django up for the site, so other parts come before."""
    site.manage("create_tenant", "large")
    _fill(site)
    found = _over_all(site)["over_all_ms"]
    return [
        Figure(f"operator's report: {name}", ms, "ms", at_most=AT_MOST_MS if name.startswith("revenue") else None)
        for name, ms in found.items()
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        site.manage("create_tenant", "large")
        key = make_key(site, "large")
        _fill(site)
        server = site.start_server()
        found: dict[str, Any] = {"usage_ms": _usage(site, key), **_file(site, key, server.pid), **_over_all(site)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "operator_reports.json").write_text(json.dumps(found, indent=1))
    print("written to results/operator_reports.json")


def _fill(site: LiveSite) -> None:
    with closing(psycopg2.connect(site.env["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(SCOPE)
        for statement in FILL:
            cursor.execute(statement.format(tenants=TENANTS, hours=HOURS, series=SERIES))
        cursor.execute("VACUUM ANALYZE tenants_usagehour, tenants_usageday, tenants_usagemonth, tenants_tenant")
        cursor.execute("SELECT (SELECT count(*) FROM tenants_usagehour), (SELECT count(*) FROM tenants_usageday)")
        print("{:,} rows of hours, {:,} of days".format(*(cursor.fetchone() or (0, 0))))


def _usage(site: LiveSite, key: str) -> dict[str, float]:
    found = {}
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=300) as client:

        def get(query: str) -> None:
            answer = client.get(f"/api/v1/usage?{query}")
            assert answer.status_code == 200, answer.text

        for name, query in USAGE.items():
            found[name] = _median_ms(lambda query=query: get(query))  # type: ignore[misc]
        amid = f"{MONTH}&bucket_width=hour&group_by=key&limit=200"
        half = f"from=2026-10-16&{LAST}&bucket_width=hour&group_by=key&limit=200"
        url = client.get(f"/api/v1/usage?{half}").json()["next"]
        cursor = httpx.URL(url).params["cursor"]
        found["hours by key, a page amid"] = _median_ms(lambda: get(f"{amid}&cursor={cursor}"))
    for name, ms in found.items():
        print(f"usage, {name}: {ms:.0f} ms")
    return found


def _file(site: LiveSite, key: str, pid: int) -> dict[str, Any]:
    """The whole month by hours and all groups as one file: 744,000 lines."""
    process = psutil.Process(pid)
    before, started, size, lines = process.memory_info().rss, time.monotonic(), 0, 0
    url = f"{site.url}/api/v1/usage?{MONTH}&bucket_width=hour&group_by=key,deployment,version&format=csv"
    with httpx.stream("GET", url, headers={"Authorization": f"Bearer {key}"}, timeout=600) as answer:
        for piece in answer.iter_bytes():
            size, lines = size + len(piece), lines + piece.count(b"\n")
    seconds, more = time.monotonic() - started, process.memory_info().rss - before
    print(f"file of {lines:,} lines, {size / 1e6:.0f} MB: {seconds:.1f} s; the server grew by {more / 1e6:.0f} MB")
    assert lines == SERIES * HOURS + 1
    return {"file_lines": lines, "file_seconds": seconds, "file_bytes": size, "server_grew_bytes": more}


def _over_all(site: LiveSite) -> dict[str, Any]:
    os.environ.update(site.env)
    import django

    django.setup()
    from django.db import connection

    from tenants import scoping
    from tenants.models import Price
    from tenants.reports import operator_reports

    months = [date(2026, 10, 1)]
    found: dict[str, Any] = {}

    def report(kind: str) -> None:
        with scoping.operator():
            assert operator_reports.report(kind=kind, months=months, today=months[0]).rows

    for kind in ("revenue", "tenants", "compute"):
        found[kind] = _median_ms(lambda kind=kind: report(kind))  # type: ignore[misc]
    started = time.process_time()
    report("revenue")
    cpu = (time.process_time() - started) * 1000
    print(f"{TENANTS:,} tenants, revenue: {cpu:.0f} ms of this process's CPU, whatever else the machine does")
    for meter in ("predictions", "training_seconds"):
        Price.objects.create(
            plan_id="standard", meter=meter, valid_from=months[0] + timedelta(days=9), amount=1, per=1000, unit="units"
        )
    found["revenue, two prices begun amid the month"] = _median_ms(lambda: report("revenue"))
    connection.close()
    for name, ms in found.items():
        print(f"{TENANTS:,} tenants, {name}: {ms:.0f} ms")
    return {"over_all_ms": found, "revenue_cpu_ms": cpu}


def _median_ms(do: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        do()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
