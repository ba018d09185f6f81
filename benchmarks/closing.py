"""Closing a month of 10,000 tenants: `python -m benchmarks.closing [--tenants N] [--hours N]`.

It has a database of its own. Each tenant has the sums of three meters in `hours` of the month's hours; a tenth have
changed their plan amid it.
"""

import argparse
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import psycopg2

from benchmarks.figures import Figure
from tests.live import LiveSite

MONTH, END = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
WANTED_SECONDS = 300

TENANTS = """
INSERT INTO tenants_tenant (id, name, plan_id, active, created_at)
SELECT 'ten_' || n, 'bench-' || n, 'standard', true, %(month)s FROM generate_series(1, %(tenants)s) n
"""
CHANGES = """
INSERT INTO tenants_planchange (id, tenant_id, number, before_id, after_id, at, holds_from, actor)
SELECT 'pch_' || n, 'ten_' || n, 1, 'trial', 'standard', %(month)s, %(month)s + interval '1 hour' * (n %% 700), 'bench'
FROM generate_series(1, %(tenants)s, 10) n
"""
ROLLUP = """
INSERT INTO tenants_usagehour (tenant_id, hour, key, deployment, version, meter, quantity)
SELECT 'ten_' || n, %(month)s + interval '1 hour' * (h * (744 / %(hours)s)), 'key_' || n, 'cats', 'cats@1', m,
       h * n %% 1000 + 1
FROM generate_series(1, %(tenants)s) n, generate_series(0, %(hours)s - 1) h,
     unnest(ARRAY['requests', 'predictions', 'compute_ms']) m
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What was closed, and how long it took."""

    tenants: int
    rollup_rows: int
    invoices: int
    seconds: float
    wanted_seconds: int = WANTED_SECONDS


def part(site: LiveSite) -> list[Figure]:
    """Closing in a process of its own, which has a database of its own."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.closing"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    name = f"closing a month of {found['tenants']:,} tenants, {found['rollup_rows']:,} hourly sums"
    return [Figure(name, found["seconds"], "s", at_most=found["wanted_seconds"])]


def prepare(*, tenants: int, hours: int) -> int:
    """Fills the database that Django is set up for; says how many rows the rollup has then."""
    from django.db import connection

    from tenants import scoping

    values: dict[str, int | datetime] = {"month": MONTH, "tenants": tenants, "hours": hours}
    with scoping.operator(), connection.cursor() as cursor:
        for statement in (TENANTS, CHANGES, ROLLUP):
            cursor.execute(statement, values)
        rows = int(cursor.rowcount)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return rows


def measure(*, tenants: int = 10_000, hours: int = 100) -> Result:
    """Closes the month of so many tenants, after it has filled the database for it."""
    from tenants.invoicing import closing

    rows = prepare(tenants=tenants, hours=hours)
    began = time.perf_counter()
    done = closing.close(month=MONTH.date(), actor="operator:benchmark", now=END)
    return Result(tenants, rows, done.invoices, round(time.perf_counter() - began, 1))


@contextlib.contextmanager
def database_of_its_own() -> Iterator[None]:
    """A new database in the embedded server, for which Django is set up; dropped at the end."""
    from aiaas_site import embedded_database

    server = embedded_database.ensure_started_server()
    name = f"bench_{secrets.token_hex(6)}"
    socket = quote(str(server.get_postmaster_info().socket_dir), safe="")
    os.environ["DATABASE_URL"] = f"postgres://{embedded_database.ROLE}@{socket}/{name}"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aiaas_site.settings")
    superuser = psycopg2.connect(server.get_uri())
    superuser.autocommit = True
    with contextlib.closing(superuser), superuser.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} OWNER {embedded_database.ROLE}")
        try:
            yield
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=100, help="hours of the month in which each meter has a sum")
    chosen = parser.parse_args()
    with database_of_its_own():
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        print(json.dumps(asdict(measure(tenants=chosen.tenants, hours=chosen.hours))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
