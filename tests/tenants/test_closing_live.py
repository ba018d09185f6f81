"""Closing a month from several processes at once, while events arrive, and through SIGKILL: each tenant's once."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from aiaas_site import embedded_database
from tests.live import LiveSite, live_site

pytestmark = pytest.mark.slow
TENANTS = 450  # three transactions of a closing

EMPTIED = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("TRUNCATE tenants_tenant, tenants_numberseries, tenants_usagesegment CASCADE")
print(0)
"""
MADE = """
from datetime import datetime, timedelta
from decimal import Decimal
from tenants import accounts, scoping
from tenants.ledger import usage
from tenants.models import Plan, Tenant
from tenants.ledger.usage import UsageEvent
month = datetime.fromisoformat({month!r})
with scoping.operator():
    plan = Plan.objects.get(code="standard")
    tenants = Tenant.objects.bulk_create(
        Tenant(name=f"t{{n}}", plan=plan, created_at=month) for n in range({tenants})
    )
events = [
    UsageEvent(id="r", at_ms=int(month.timestamp() * 1000), tenant=tenant.pk, key="k", deployment="d", version="d@1",
               meters={{"predictions": 1000}})
    for tenant in tenants
]
usage.record(events=events, producer="storage", segment_id="first")
print(len(tenants))
"""
# What each tenant was billed for the month, what it used of it, and the numbers of all invoices.
FOUND = """
import json
from django.db.models import Count, Sum
from tenants import scoping
from tenants.models import ClosedMonth, InvoiceLine, Invoice, UsageHour
month = {month!r}[:10]
with scoping.operator():
    billed = dict(InvoiceLine.across_tenants.filter(month=month).values_list("tenant").annotate(s=Sum("amount")))
    predictions = UsageHour.across_tenants.filter(meter="predictions")
    used = dict(predictions.values_list("tenant").annotate(s=Sum("quantity")))
    print(json.dumps({{
        "billed": {{pk: float(amount) for pk, amount in billed.items()}},
        "used": {{pk: int(quantity) for pk, quantity in used.items()}},
        "numbers": list(Invoice.across_tenants.order_by("number").values_list("number", flat=True)),
        "closed": ClosedMonth.across_tenants.filter(month=month).count(),
    }}))
"""
# Ends when the file is there; says how many events it brought.
LATE = """
import itertools, os, pathlib, random, sys
from datetime import datetime
from tenants import scoping
from tenants.ledger import usage
from tenants.models import Tenant
from tenants.ledger.usage import UsageEvent
at_ms = int(datetime.fromisoformat({month!r}).timestamp() * 1000)
with scoping.operator():
    tenants = list(Tenant.objects.values_list("pk", flat=True))
for number in itertools.count():
    if pathlib.Path({stop!r}).exists():
        break
    events = [
        UsageEvent(id="r", at_ms=at_ms, tenant=tenant, key="k", deployment="d", version="d@1",
                   meters={{"predictions": 1000}})
        for tenant in random.sample(tenants, 20)
    ]
    usage.record(events=events, producer="storage", segment_id=f"late/{{os.getpid()}}/{{number}}")
print(number)
"""


def month_before(day: datetime) -> datetime:
    return (day.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)).replace(day=1)


# Three months that have ended, the first of which the tests close.
THIRD = month_before(datetime.now(UTC))
SECOND = month_before(THIRD)
FIRST = month_before(SECOND)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with live_site(tmp_path_factory.mktemp("closing")) as found:
        yield found


@pytest.fixture
def tenants(site: LiveSite) -> int:
    """None of before: each test closes months of its own tenants, and numbers begin at 1."""
    site.python(EMPTIED)
    return int(site.python(MADE.format(month=FIRST.isoformat(), tenants=TENANTS)))


def closer(site: LiveSite) -> subprocess.Popen[bytes]:
    return site.spawn("manage.py", "close_billing_period", "--month", f"{FIRST:%Y-%m}")


def python(site: LiveSite, code: str) -> "subprocess.Popen[bytes]":
    return site.spawn("manage.py", "shell", "--no-imports", "-c", code)


def found(site: LiveSite) -> dict[str, Any]:
    result: dict[str, Any] = site.python(FOUND.format(month=FIRST.isoformat()))
    return result


def closed_so_far(site: LiveSite) -> int:
    server = embedded_database.ensure_started_server()
    connection = psycopg2.connect(server.get_uri(database=site.database))
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_closedmonth")
        return int(cursor.fetchall()[0][0])


def without_gaps(numbers: list[str]) -> bool:
    return numbers == [f"INV-{datetime.now(UTC):%Y}-{number:06d}" for number in range(1, len(numbers) + 1)]


def test_two_processes_that_close_at_once_close_each_tenant_once(site: LiveSite, tenants: int) -> None:
    closers = [closer(site) for _ in range(2)]
    assert [each.wait(180) for each in closers] == [0, 0]
    state = found(site)
    assert len(state["numbers"]) == state["closed"] == tenants
    assert without_gaps(state["numbers"])
    assert set(state["billed"].values()) == {0.5}


def test_a_closing_that_is_killed_leaves_no_gap_and_is_finished_by_the_next(site: LiveSite, tenants: int) -> None:
    for _ in range(2):  # each time in the middle of the transaction after the first that was committed
        before, process = closed_so_far(site), closer(site)
        while closed_so_far(site) == before:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert before < closed_so_far(site) < tenants
        assert without_gaps(found(site)["numbers"])
    assert closer(site).wait(180) == 0
    state = found(site)
    assert len(state["numbers"]) == state["closed"] == tenants
    assert without_gaps(state["numbers"])


def test_what_arrives_while_a_month_is_closed_is_billed_once_now_or_by_the_next(
    site: LiveSite, tenants: int, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    writers = [python(site, LATE.format(month=FIRST.isoformat(), stop=str(stop))) for _ in range(2)]
    time.sleep(1)
    closers = [closer(site) for _ in range(2)]
    assert [each.wait(180) for each in closers] == [0, 0]
    time.sleep(1)
    stop.touch()
    assert [each.wait(60) for each in writers] == [0, 0]
    first = found(site)
    assert first["closed"] == tenants
    assert sum(first["billed"].values()) < sum(first["used"].values()) / 2000  # so some did come late
    for month in (SECOND, THIRD):  # the second of them has nothing to adjust any more
        site.manage("close_billing_period", "--month", f"{month:%Y-%m}")
        state = found(site)
        assert state["billed"] == {tenant: round(count / 2000, 2) for tenant, count in state["used"].items()}
    assert json.dumps(state["numbers"]) != json.dumps(first["numbers"])


def test_a_month_that_runs_is_refused(site: LiveSite) -> None:
    with pytest.raises(AssertionError, match="a month is closed after its end"):
        site.manage("close_billing_period", "--month", f"{date.today():%Y-%m}")  # noqa: DTZ011
