"""Quotas where they are spent: exact, refused with words, and settled by what was answered."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.inference.conftest import PlaneSite
from tests.inference.test_plane import PREDICT
from tests.publishing import IDENTITY, make_key, publish

LIMIT = 40
SMALL_PLAN = """
from inference import deployments
from modelhub.models import ModelVersion
from tenants import accounts, scoping
from tenants.models import Plan
from django.utils import timezone
from pathlib import Path
now = timezone.now()
with scoping.operator():
    plan = Plan.objects.create(code="small", name="Small", predictions_per_month={limit})
    accounts.create_tenant(name="small", plan=plan, actor="operator:test", now=now)
print(1)
"""
BUCKETS = """
import json
from tenants import scoping
from tenants.models import QuotaBucket
with scoping.operator():
    rows = QuotaBucket.across_tenants.filter(tenant__name="small")
    print(json.dumps([[b.limit, b.consumed, b.leased] for b in rows]))
"""


@pytest.fixture
def small(plane: PlaneSite) -> Iterator[httpx.Client]:
    plane.site.python(SMALL_PLAN.format(limit=LIMIT))
    publish(
        plane.site,
        tenant="small",
        model="identity",
        path=plane.files["identity.tflite"],
        deployment="identity",
        **IDENTITY,
    )
    with plane.client(make_key(plane.site, "small")) as client:
        deadline = time.monotonic() + 3
        while client.get("/v1/models/identity").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        yield client


def test_exactly_the_limit_passes_and_the_bucket_says_so(plane: PlaneSite, small: httpx.Client) -> None:
    def ask(rows: int) -> httpx.Response:
        return small.post(PREDICT, json={"instances": [[0, 0, 0, 0]] * rows})

    assert ask(LIMIT + 1).status_code == 429
    assert ask(0).json() == {"predictions": []}  # no rows cost nothing
    passed = 0
    while (answer := ask(3)).status_code == 200:
        passed += 3
    assert answer.status_code == 429
    assert passed == LIMIT - LIMIT % 3
    assert int(answer.headers["retry-after"]) > 0
    assert f'"month";r={LIMIT % 3};t=' in answer.headers["ratelimit"]
    assert f"{LIMIT} predictions a month" in answer.json()["error"]
    assert f"{LIMIT % 3} are left" in answer.json()["error"]
    assert ask(1).status_code == 200
    assert ask(1).status_code == 429
    deadline = time.monotonic() + 5
    while plane.site.python(BUCKETS) != [[LIMIT, LIMIT, 0]]:
        assert time.monotonic() < deadline, json.dumps(plane.site.python(BUCKETS))
