"""Quotas: whatever processes do at once, a limit is never passed, and what was not used comes back."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from tenants import scoping
from tenants.ledger import usage
from tenants.limits import quota_periods, quotas
from tenants.models import Period, Plan, QuotaBucket, QuotaLease, Tenant, UsageHour
from tests.conftest import Account
from tests.tenants.test_usage import an_event
from tests.threads import in_threads


@pytest.fixture
def small(acme: Account) -> Tenant:
    """acme on a plan of 100 predictions a month."""
    return on_plan(acme.tenant, month=100)


def on_plan(tenant: Tenant, *, month: int | None, minute: int | None = None) -> Tenant:
    with scoping.operator():
        tenant.plan, _ = Plan.objects.update_or_create(
            code="small", defaults={"name": "Small", "predictions_per_month": month, "predictions_per_minute": minute}
        )
        tenant.save()
    return tenant


def lease(tenant: Tenant, producer: str = "p1", wanted: int = 10, minimum: int = 1) -> quotas.Grant:
    ask = quotas.Ask("tenant", "predictions", "month", wanted=wanted, minimum=minimum)
    (grant,) = quotas.lease(tenant_id=tenant.pk, producer=producer, asks=[ask])
    return grant


def give_back(tenant: Tenant, grant: quotas.Grant, units: int, producer: str = "p1") -> None:
    held = quotas.Held("tenant", "predictions", "month", grant.period_start, units)
    quotas.give_back(tenant_id=tenant.pk, producer=producer, held=[held])


def bucket(tenant: Tenant) -> QuotaBucket:
    with scoping.tenant(tenant.pk):
        return QuotaBucket.objects.for_tenant(tenant).get(period=Period.MONTH)


@given(wanted=st.integers(1, 1000), minimum=st.integers(1, 1000), remaining=st.integers(0, 10_000))
def test_a_block_is_what_can_be_had_and_small_near_the_limit(wanted: int, minimum: int, remaining: int) -> None:
    minimum = min(minimum, wanted)
    units = quotas.block(wanted=wanted, minimum=minimum, remaining=remaining)
    assert units <= remaining
    assert units <= wanted
    assert (units >= minimum) == (remaining >= minimum)
    assert units <= max(minimum, remaining / 4)


def test_leases_end_at_the_limit(small: Tenant) -> None:
    granted = 0
    while units := lease(small).units:
        granted += units
    assert granted == 100
    refused = lease(small)
    assert (refused.units, refused.limit, refused.remaining) == (0, 100, 0)
    assert refused.period_end > timezone.now()


def test_a_request_that_needs_more_than_is_left_is_refused_whole(small: Tenant) -> None:
    assert lease(small, wanted=95, minimum=95).units == 95
    assert lease(small, wanted=6, minimum=6).units == 0
    assert lease(small, wanted=5, minimum=5).units == 5


def test_no_limit_needs_no_bucket(acme: Account) -> None:
    tenant = on_plan(acme.tenant, month=None)
    assert lease(tenant, wanted=64).units == 64
    assert lease(tenant).limit is None
    with scoping.tenant(tenant.pk):
        assert not QuotaBucket.objects.for_tenant(tenant).exists()


def test_a_limit_that_begins_in_mid_month_counts_what_was_used_before(acme: Account) -> None:
    now = timezone.now()
    event = an_event(acme.tenant.pk, at_ms=int(now.timestamp() * 1000), predictions=98)
    usage.take_segment(segment_id="s1", producer="p1", data=usage.encode(event), watermark=None)
    tenant = on_plan(acme.tenant, month=100)
    assert lease(tenant, minimum=2, wanted=2).units == 2
    assert lease(tenant).units == 0


def test_a_changed_limit_holds_at_once(small: Tenant) -> None:
    assert lease(small, wanted=100, minimum=100).units == 100
    on_plan(small, month=110)
    assert lease(small, wanted=10, minimum=10).units == 10
    on_plan(small, month=50)
    assert lease(small).units == 0
    assert bucket(small).limit == 110  # Not below what is spoken for already.


def test_what_is_given_back_can_be_leased_again(small: Tenant) -> None:
    grant = lease(small, wanted=100, minimum=100)
    for _ in range(2):  # The second time there is nothing left to give.
        give_back(small, grant, 60)
    give_back(small, grant, 60, producer="other")
    assert bucket(small).leased == 0
    assert lease(small, wanted=100, minimum=100).units == 100


def used(tenant: Tenant, count: int, segment: str, producer: str = "p1") -> None:
    event = an_event(tenant.pk, at_ms=int(timezone.now().timestamp() * 1000), predictions=count)
    assert usage.take_segment(segment_id=segment, producer=producer, data=usage.encode(event), watermark=None)


def test_leased_units_become_consumed_with_the_events(small: Tenant) -> None:
    lease(small, wanted=20, minimum=20)
    used(small, 15, "s1")
    found = bucket(small)
    assert (found.consumed, found.leased) == (15, 5)
    with scoping.operator():
        assert QuotaLease.across_tenants.get().units == 5


def test_a_closed_producer_returns_what_it_held(small: Tenant) -> None:
    usage.open_producer(producer="p1", now=timezone.now())
    lease(small, wanted=20, minimum=20)
    used(small, 15, "s1")
    usage.close_producer(producer="p1", now=timezone.now())
    found = bucket(small)
    assert (found.consumed, found.leased) == (15, 0)
    with scoping.operator():
        assert not QuotaLease.across_tenants.exists()


def test_more_than_was_leased_is_consumed_all_the_same(small: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    lease(small, wanted=20, minimum=20)
    lease(small, producer="p2", wanted=70, minimum=70)
    used(small, 35, "s1")
    found = bucket(small)
    assert (found.consumed, found.leased, found.limit) == (35, 70, 105)
    assert lease(small).remaining == 0
    assert "had leased 20" in caplog.text
    with scoping.tenant(small.pk):
        rows = UsageHour.objects.for_tenant(small)
        assert rows.get(meter="predictions").quantity == 35  # The bill knows all of it.


def test_old_minutes_are_forgotten(acme: Account) -> None:
    tenant = on_plan(acme.tenant, month=None, minute=10)
    with scoping.operator():
        old = QuotaBucket.across_tenants.create(
            tenant=tenant, scope="tenant", meter="predictions", period=Period.MINUTE, limit=10, leased=1,
            period_start=datetime(2026, 1, 1, tzinfo=UTC),
        )  # fmt: skip
        QuotaLease.across_tenants.create(tenant=tenant, bucket=old, producer="gone", units=1)
    quotas.lease(tenant_id=tenant.pk, producer="p1", asks=[quotas.Ask("tenant", "predictions", "minute", 1, 1)])
    with scoping.tenant(tenant.pk):
        assert QuotaBucket.objects.for_tenant(tenant).get().pk != old.pk


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (Period.MINUTE, "2026-12-31T23:59:59.9", "2026-12-31T23:59", "2027-01-01T00:00"),
        (Period.DAY, "2026-12-31T23:59:59.9", "2026-12-31T00:00", "2027-01-01T00:00"),
        (Period.DAY, "2026-03-29T01:30", "2026-03-29T00:00", "2026-03-30T00:00"),  # clocks go forward in Europe
        (Period.DAY, "2026-10-25T01:30", "2026-10-25T00:00", "2026-10-26T00:00"),  # and back
        (Period.MONTH, "2026-12-31T23:59:59.9", "2026-12-01T00:00", "2027-01-01T00:00"),
        (Period.MONTH, "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
    ],
)
def test_periods_are_those_of_the_calendar(period: str, moment: str, start: str, end: str) -> None:
    begins = quota_periods.start_of(period, datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert begins == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert quota_periods.end_of(period, begins) == datetime.fromisoformat(end).replace(tzinfo=UTC)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_exactly_the_limit_passes_however_many_ask_at_once(small: Tenant) -> None:
    """Four processes of 50 clients each: leases are spent in memory, shipped, returned, and leased again."""
    answered: list[int] = []

    def process(number: int) -> None:
        producer, passed = f"p{number}", 0
        for client in range(50):
            grant = lease(small, producer=producer, wanted=3)
            if grant.units == 0:
                continue
            spent = min(grant.units, 1 + client % 2)
            used(small, spent, f"{producer}/{client}", producer)
            passed += spent
            if spent < grant.units:
                give_back(small, grant, grant.units - spent, producer)
        answered.append(passed)

    in_threads(process, 4)
    found = bucket(small)
    assert sum(answered) == 100
    assert (found.consumed, found.leased) == (100, 0)
