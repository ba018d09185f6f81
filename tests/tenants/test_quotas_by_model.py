"""Quotas against a naive model: whatever is leased, settled, given back and released, both say the same."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants import scoping
from tenants.ledger import usage
from tenants.limits import quota_limits, quotas
from tenants.models import Plan, QuotaBucket, QuotaLease, QuotaLimit, Tenant
from tests.conftest import Account
from tests.tenants.test_usage import an_event

KEYS, DEPLOYMENTS, PRODUCERS = ("k0", "k1"), ("d0", "d1"), ("p0", "p1", "p2")
SCOPES = ("tenant", "key:k0", "key:k1", "deployment:d0", "deployment:d1")
PERIODS = ("minute", "day", "month")
# The ends of a month, of a leap day, and the nights in which clocks change in Europe and in America.
BEGINNINGS = [
    datetime(2026, 12, 31, 23, 58, 50, tzinfo=UTC),
    datetime(2028, 2, 29, 23, 58, 50, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC),
    datetime(2026, 10, 24, 23, 58, 50, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 59, 30, tzinfo=UTC),
]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(PRODUCERS), st.sampled_from(KEYS), st.sampled_from(DEPLOYMENTS),
                  st.integers(1, 6), st.integers(1, 30)),
        st.tuples(st.just("use"), st.sampled_from(PRODUCERS), st.sampled_from(KEYS), st.sampled_from(DEPLOYMENTS),
                  st.integers(1, 9), st.booleans()),
        st.tuples(st.just("give back"), st.sampled_from(PRODUCERS), st.sampled_from(SCOPES), st.sampled_from(PERIODS),
                  st.integers(1, 20)),
        st.tuples(st.just("release"), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("limit"), st.sampled_from(SCOPES), st.sampled_from(PERIODS), st.integers(1, 60)),
        st.tuples(st.just("no limit"), st.sampled_from(SCOPES), st.sampled_from(PERIODS)),
        st.tuples(st.just("wait"), st.sampled_from([5, 30, 70, 3600, 86400])),
    ),
    min_size=12,
    max_size=40,
)  # fmt: skip
Place = tuple[str, str, datetime]


class Naive:
    """A limit is kept by counting everything anew each time."""

    def __init__(self) -> None:
        self.limits: dict[tuple[str, str], int] = {}
        self.consumed: dict[Place, int] = {}
        self.leased: dict[tuple[Place, str], int] = defaultdict(int)
        self.events: list[tuple[datetime, str, str, int]] = []

    def place(self, scope: str, period: str, at: datetime) -> Place:
        text = at.isoformat()
        return (
            scope,
            period,
            datetime.fromisoformat({"minute": text[:16], "day": text[:10], "month": text[:7] + "-01"}[period]).replace(
                tzinfo=UTC
            ),
        )

    def outstanding(self, place: Place) -> int:
        return sum(units for (where, _), units in self.leased.items() if where == place)

    def open(self, place: Place) -> None:
        scope, period, _ = place
        if place not in self.consumed:
            before = [
                rows for at, key, deployment, rows in self.events
                if scope in ("tenant", f"key:{key}", f"deployment:{deployment}") and period != "minute"
                and self.place(scope, period, at) == place
            ]  # fmt: skip
            self.consumed[place] = sum(before)

    def ask(self, producer: str, scopes: tuple[str, ...], rows: int, wanted: int, now: datetime) -> list[int]:
        places = [self.place(scope, period, now) for scope, period in asked(self.limits, scopes)]
        rooms = []
        for place in places:
            self.open(place)
            spoken = self.consumed[place] + self.outstanding(place)
            rooms.append(self.limits[place[:2]] - spoken)
        if any(room < rows for room in rooms):
            return [0] * len(places)
        given = [max(rows, min(max(rows, wanted), room // 4)) for room in rooms]
        for place, units in zip(places, given, strict=True):
            self.leased[place, producer] += units
        return given

    def use(self, producer: str, key: str, deployment: str, rows: int, at: datetime) -> None:
        self.events.append((at, key, deployment, rows))
        for scope in ("tenant", f"key:{key}", f"deployment:{deployment}"):
            for period in PERIODS:
                place = self.place(scope, period, at)
                if place in self.consumed:
                    own = min(rows, self.leased[place, producer])
                    self.leased[place, producer] -= own
                    self.consumed[place] += rows


def asked(limits: dict[tuple[str, str], int], scopes: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(scope, period) for scope in scopes for period in PERIODS if (scope, period) in limits]


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic(), scoping.operator():
        yield
        transaction.set_rollback(True)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(beginning=st.sampled_from(BEGINNINGS), steps=steps)
def test_leases_are_those_of_a_naive_model(
    acme: Account, monkeypatch: pytest.MonkeyPatch, beginning: datetime, steps: list[tuple[Any, ...]]
) -> None:
    now = [beginning]
    monkeypatch.setattr(quotas, "database_time", lambda: now[0])
    with undone():
        Plan.objects.filter(pk=acme.tenant.plan_id).update(predictions_per_minute=None, predictions_per_month=None)
        tenant = Tenant.objects.select_related("plan").get(pk=acme.tenant.pk)
        Real(tenant, now).walk([("limit", "tenant", "month", 40), ("use", "p0", "k0", "d0", 3, False), *steps])


class Real:
    """Takes each step in the database and in the model, and compares the two after each."""

    def __init__(self, tenant: Tenant, now: list[datetime]) -> None:
        self.tenant, self.now, self.naive, self.segments = tenant, now, Naive(), count()
        self.before = now[0]

    def walk(self, steps: list[tuple[Any, ...]]) -> None:
        for verb, *arguments in steps:
            getattr(self, verb.replace(" ", "_"))(*arguments)
            self.compare()

    def ask(self, producer: str, key: str, deployment: str, rows: int, wanted: int) -> None:
        scopes = quotas.scopes_of(key=key, deployment=deployment)
        asks = [
            quotas.Ask(scope, "predictions", period, max(rows, wanted), rows)
            for scope, period in asked(self.naive.limits, scopes)
        ]
        grants = quotas.lease(tenant_id=self.tenant.pk, producer=producer, asks=asks)
        assert [one.units for one in grants] == self.naive.ask(producer, scopes, rows, wanted, self.now[0])
        assert any(one.refused for one in grants) == (bool(grants) and not any(one.units for one in grants))

    def use(self, producer: str, key: str, deployment: str, rows: int, late: bool) -> None:
        at = self.before if late else self.now[0]
        event = an_event(self.tenant.pk, at_ms=int(at.timestamp() * 1000), requests=1, predictions=rows)
        event = type(event)(event.id, event.at_ms, event.tenant, key, deployment, event.version, event.meters)
        segment = f"s{next(self.segments)}"
        usage.take_segment(segment_id=segment, producer=producer, data=usage.encode(event), watermark=None)
        self.naive.use(producer, key, deployment, rows, at)

    def give_back(self, producer: str, scope: str, period: str, units: int) -> None:
        place = self.naive.place(scope, period, self.now[0])
        held = [quotas.Held(scope, "predictions", period, place[2], units)]
        quotas.give_back(tenant_id=self.tenant.pk, producer=producer, held=held)
        self.naive.leased[place, producer] -= min(units, self.naive.leased[place, producer])

    def release(self, producer: str) -> None:
        quotas.release(producer=producer)
        for place, holder in list(self.naive.leased):
            if holder == producer:
                self.naive.leased[place, holder] = 0

    def limit(self, scope: str, period: str, limit: int) -> None:
        QuotaLimit.objects.for_tenant(self.tenant).update_or_create(
            tenant=self.tenant, scope=scope, meter="predictions", period=period, set_by="operator",
            defaults={"limit": limit},
        )  # fmt: skip
        self.naive.limits[scope, period] = limit

    def no_limit(self, scope: str, period: str) -> None:
        QuotaLimit.objects.for_tenant(self.tenant).filter(scope=scope, period=period).delete()
        self.naive.limits.pop((scope, period), None)

    def wait(self, seconds: int) -> None:
        self.before = self.now[0]
        self.now[0] += timedelta(seconds=seconds)

    def compare(self) -> None:
        assert {a[::2]: one.limit for a, one in quota_limits.of(self.tenant).items()} == self.naive.limits
        there = set()
        for row in QuotaBucket.objects.for_tenant(self.tenant):
            place = (row.scope, row.period, row.period_start)
            there.add(place)
            assert (row.consumed, row.leased) == (self.naive.consumed[place], self.naive.outstanding(place)), place
            for lease in QuotaLease.objects.for_tenant(self.tenant).filter(bucket=row):
                assert lease.units == self.naive.leased[place, lease.producer]
        # Minutes of more than an hour ago are forgotten, nothing else is.
        old = self.now[0] - timedelta(hours=1)
        assert all(period == "minute" and start < old for _, period, start in self.naive.consumed.keys() - there)
        self.forget(there)

    def forget(self, there: set[Place]) -> None:
        for place in self.naive.consumed.keys() - there:
            del self.naive.consumed[place]
