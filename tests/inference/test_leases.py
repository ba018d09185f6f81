"""Leases of several processes on one database, each in turn and all at once: never more than the limit, none lost."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from inference.plane.directory import KeyEntry, TenantEntry
from inference.plane.leases import Leases, Spent
from tenants import scoping
from tenants.errors import OverQuota
from tenants.limits import quota_limits, quotas
from tenants.models import Plan, QuotaBucket, QuotaLimit, Tenant
from tests.conftest import Account

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
PROCESSES = 4


class Processes:
    """The leases of several processes, which hear one another's recalls."""

    def __init__(self, tenant: Tenant) -> None:
        self.loop = asyncio.get_running_loop()
        self.threads = ThreadPoolExecutor(4)
        self.all = [Leases(producer=f"p{number}", in_thread=self.in_thread) for number in range(PROCESSES)]
        with_limits = TenantEntry(tenant.pk, tenant.name, {})
        self.key = KeyEntry("key_1", b"", with_limits, frozenset(), None)

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        return self.loop.run_in_executor(self.threads, and_close, call, *arguments)

    def heard(self, tenant_id: str, producer: str, address: tuple[str, str, str]) -> None:
        for leases in self.all:
            self.loop.call_soon_threadsafe(leases.recall, json.dumps([tenant_id, producer, *address]))

    async def know(self) -> None:
        """What the feed would bring."""
        limits = await self.in_thread(limits_of, self.key.tenant.id)
        own = tuple(limit for limit in limits if limit.scope == "tenant")
        narrower = {limit.scope: (limit,) for limit in limits if limit.scope != "tenant"}
        tenant = TenantEntry(self.key.tenant.id, self.key.tenant.name, {}, own, narrower)
        self.key = KeyEntry("key_1", b"", tenant, frozenset(), None)

    async def spend(self, number: int, rows: int = 1) -> Spent:
        leases = self.all[number]
        while (spent := leases.spend(self.key, "cats", rows)) is None:
            await leases.fill(self.key, "cats", rows)
        return spent

    async def stop(self) -> None:
        for leases in self.all:
            await leases.stop()
        self.threads.shutdown()


def and_close(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    finally:
        connection.close()


def limits_of(tenant_id: str) -> list[quota_limits.Limit]:
    with scoping.tenant(tenant_id):
        return list(quota_limits.of(tenant_id).values())


def put(tenant: Tenant, limit: int, **place: Any) -> None:
    with scoping.operator():
        Plan.objects.update(predictions_per_minute=None, predictions_per_month=None)
        rows = QuotaLimit.objects.for_tenant(tenant)
        if not rows.filter(**place).update(limit=limit):
            rows.create(tenant=tenant, set_by="operator", limit=limit, **place)


def run(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, story: Callable[[Processes], Coroutine[Any, Any, None]]
) -> None:
    async def told() -> None:
        processes = Processes(tenant)
        monkeypatch.setattr(quotas, "_recall", processes.heard)
        await processes.know()
        try:
            await story(processes)
        finally:
            await processes.stop()

    asyncio.run(told())


def leased(tenant: Tenant) -> int:
    with scoping.operator():
        return QuotaBucket.objects.for_tenant(tenant).get().leased


def test_never_more_requests_under_way_than_the_limit(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    put(acme.tenant, 3, scope="key:key_1", meter="concurrency", period="always")
    under_way, most, answered, chance = 0, 0, 0, random.Random(1)
    words: set[str] = set()

    async def client(processes: Processes) -> None:
        nonlocal under_way, most, answered
        for _ in range(6):
            try:
                spent = await processes.spend(chance.randrange(PROCESSES))
            except OverQuota as refusal:
                words.add(refusal.detail)
                continue
            under_way += 1
            most, answered = max(most, under_way), answered + 1
            await asyncio.sleep(chance.random() / 50)
            under_way -= 1
            spent.leave()
            spent.leave()  # a second time changes nothing

    async def story(processes: Processes) -> None:
        held = [await processes.spend(number) for number in range(3)]
        with pytest.raises(OverQuota):
            await processes.spend(3)
        for spent in held:
            spent.leave()
        await asyncio.gather(*[client(processes) for _ in range(12)])

    run(acme.tenant, monkeypatch, story)
    assert 1 <= most <= 3
    assert words <= {"The limit of the key key_1 allows 3 requests under way at once, and so many are."}
    assert answered > 6
    assert leased(acme.tenant) <= 3


def test_a_unit_held_elsewhere_is_asked_back_before_anybody_is_refused(
    acme: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(acme.tenant, 8, scope="tenant", meter="predictions", period="month")

    async def story(processes: Processes) -> None:
        for number in range(PROCESSES):
            (await processes.spend(number, 2)).give_back()  # each holds two now, and uses none
        assert (await processes.spend(0, 8)).rows == 8
        with pytest.raises(OverQuota, match="0 are left"):
            await processes.spend(1)

    run(acme.tenant, monkeypatch, story)


def test_callers_that_leave_while_they_wait_lose_no_unit(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    put(acme.tenant, 50, scope="tenant", meter="predictions", period="month")
    chance = random.Random(2)

    async def story(processes: Processes) -> None:
        for _ in range(10):
            tasks = [asyncio.ensure_future(processes.spend(chance.randrange(PROCESSES))) for _ in range(8)]
            await asyncio.sleep(chance.random() / 100)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Spent):
                    outcome.give_back()
        assert (await processes.spend(0, 50)).rows == 50

    run(acme.tenant, monkeypatch, story)
    assert leased(acme.tenant) == 50


def test_a_lower_limit_takes_back_what_is_held(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    put(acme.tenant, 1000, scope="tenant", meter="predictions", period="month")

    async def story(processes: Processes) -> None:
        await processes.spend(0, 5)
        assert processes.all[0].of(processes.key, "cats").leases[0].units > 10
        await processes.in_thread(lower, acme.tenant)
        await processes.know()
        await processes.spend(0, 1)
        with pytest.raises(OverQuota, match="allows 6 predictions a month, and 0 are left"):
            await processes.spend(0, 1)

    run(acme.tenant, monkeypatch, story)
    assert leased(acme.tenant) == 6


def lower(tenant: Tenant) -> None:
    put(tenant, 6, scope="tenant", meter="predictions", period="month")
