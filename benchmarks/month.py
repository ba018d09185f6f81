"""A month of a tenant with 1,000 series in each of its 744 hours: the usage report and the invoice, over HTTP."""

import statistics
import time

import httpx

from benchmarks.figures import Figure
from tests.live import LiveSite
from tests.publishing import make_key

SERIES, HOURS = 1000, 744
MONTH = "2026-10"
ROUNDS = 9
AT_MOST_MS = 200.0
FILL = """
from datetime import UTC, datetime
from django.db import connection
from django.utils import timezone
from tenants import scoping
from tenants.models import Tenant
start = datetime(2026, 10, 1, tzinfo=UTC)
with scoping.operator():
    Tenant.objects.filter(name="month").update(created_at=start)
    with connection.cursor() as cursor:
        cursor.execute('''
            INSERT INTO tenants_usagehour (tenant_id, hour, key, deployment, version, meter, quantity)
            SELECT tenant.id, %s + hour * interval '1 hour', 'key_' || series %% 10, 'deployment-' || series / 4,
                   'model@' || series / 4,
                   (array['requests', 'predictions', 'compute_ms', 'input_bytes'])[1 + series %% 4], 1 + series * hour
            FROM tenants_tenant AS tenant, generate_series(0, {series} - 1) AS series,
                 generate_series(0, {hours} - 1) AS hour
            WHERE tenant.name = 'month'
        ''', [start])
        cursor.execute('''
            INSERT INTO tenants_usageday (tenant_id, day, key, deployment, version, meter, quantity)
            SELECT tenant_id, (hour AT TIME ZONE 'UTC')::date, key, deployment, version, meter, sum(quantity)
            FROM tenants_usagehour GROUP BY 1, 2, 3, 4, 5, 6
        ''')
        cursor.execute('''
            INSERT INTO tenants_usagemonth (tenant_id, month, meter, quantity)
            SELECT tenant_id, date_trunc('month', day)::date, meter, sum(quantity) FROM tenants_usageday
            GROUP BY 1, 2, 3
        ''')
        cursor.execute("ANALYZE tenants_usagehour, tenants_usageday, tenants_usagemonth")
print(1)
"""


def measure(site: LiveSite) -> list[Figure]:
    site.manage("create_tenant", "month")
    site.python(FILL.format(series=SERIES, hours=HOURS))
    key = make_key(site, "month")
    server = site.start_server(role="web")
    month = f"from={MONTH}-01&to=2026-11-01"
    figures = []
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        for name, path in {
            "usage of the month by meter": f"/api/v1/usage?bucket_width=month&{month}",
            "  by deployment, first page": f"/api/v1/usage?bucket_width=month&group_by=deployment&{month}",
            "  by day, first page": f"/api/v1/usage?bucket_width=day&{month}",
            "the month's invoice": f"/api/v1/invoices/{MONTH}",
        }.items():
            figures.append(Figure(name, _median_ms(client, path), "ms", at_most=AT_MOST_MS))
    server.terminate()
    server.wait(30)
    return figures


def _median_ms(client: httpx.Client, path: str) -> float:
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        answer = client.get(path)
        took.append(time.perf_counter() - begun)
        assert answer.status_code == 200, answer.text
    return statistics.median(took) * 1e3
