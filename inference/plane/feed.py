"""The feed: what changes in the database reaches the directory by LISTEN/NOTIFY, in a thread of its own."""

import asyncio
import contextlib
import logging
import os
import select
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from inference.deployments import with_versions
from inference.models import Deployment
from inference.plane import clock
from inference.plane.directory import (
    Bounds,
    DeploymentEntry,
    DeploymentLimits,
    Directory,
    KeyEntry,
    TenantEntry,
    VersionEntry,
)
from modelhub.models import ModelVersion
from modelhub.signatures import from_json as signature_from_json
from tenants import scoping
from tenants.keys import api_keys
from tenants.limits import quota_limits
from tenants.limits.quota_limits import Limit
from tenants.limits.quotas import RECALL
from tenants.models import ApiKey, QuotaLimit, SpendCap, Tenant

CHANNEL = "directory"
HEARTBEAT = 1.0
RETRY_SECONDS = 0.5
CATCH_UP_SECONDS = 1.0
logger = logging.getLogger(__name__)


class Feed:
    """The thread that hears of changes and brings them to the loop."""

    def __init__(
        self,
        directory: Directory,
        *,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
        recalled: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._loop = loop
        self._changed = changed
        self._recalled = recalled
        self._stopping = threading.Event()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._waiting: list[asyncio.Future[None]] = []
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._thread = threading.Thread(target=self._run, name="directory-feed", daemon=True)

    async def start(self) -> None:
        """Returns when everything is loaded; raises what the first load raises."""
        self._thread.start()
        await self._ready

    async def catch_up(self) -> None:
        """Returns when everything that was committed before this call is in the directory, or after a second.

        Whoever has just deployed and calls at once is answered, though the announcement is still under way. Callers
        share a round trip, and each round trip costs one query at most.
        """
        caught_up: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(caught_up)
        self._wake_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await caught_up

    async def stop(self) -> None:
        self._stopping.set()
        self._wake_up()
        await asyncio.to_thread(self._thread.join)
        os.close(self._woken)
        os.close(self._wake)

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wake, b"w")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (DatabaseError, InterfaceError, OSError) as error:
                logger.warning("the directory's feed was lost, trying again: %s", str(error).strip())
                self._on_loop(self._fail_start, error)
                self._stopping.wait(RETRY_SECONDS)
            except Exception as error:
                logger.exception("the directory's feed failed, trying again")
                self._on_loop(self._fail_start, error)
                self._stopping.wait(RETRY_SECONDS)
            finally:
                connection.close()

    def _listen(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
            cursor.execute(f"LISTEN {RECALL}")
        _ask_the_time()
        self._bring_all()
        while not self._stopping.is_set():
            raw = connection.connection
            readable, _, _ = select.select([raw, self._woken], [], [], HEARTBEAT)
            if self._woken in readable:
                os.read(self._woken, 65536)
            waiting, self._waiting = self._waiting, []
            # A query on the listening connection proves that it lives, and whatever was announced before has arrived.
            heard_at = _ask_the_time()
            changed = {notice.payload for notice in raw.notifies if notice.channel == CHANNEL}
            for payload in [notice.payload for notice in raw.notifies if notice.channel == RECALL]:
                self._on_loop(self._recalled, payload)
            raw.notifies.clear()
            if "" in changed:
                self._bring_all()
            else:
                for tenant_id in changed:
                    self._bring(tenant_id)
            self._on_loop(self._directory.heard, heard_at)
            self._on_loop(_let_go, waiting)

    def _bring_all(self) -> None:
        heard_at = time.monotonic()
        found = read()
        self._on_loop(self._directory.replace_all, found)
        self._on_loop(self._directory.heard, heard_at)
        self._on_loop(self._announce)

    def _bring(self, tenant_id: str) -> None:
        keys, tenant = read(tenant_id).get(tenant_id, ([], None))
        self._on_loop(self._directory.replace, tenant_id, keys, tenant)
        self._on_loop(self._announce)

    def _announce(self) -> None:
        self._changed()
        if not self._ready.done():
            self._ready.set_result(None)

    def _fail_start(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)


def _ask_the_time() -> float:
    """Sets our clock by the database's; when it was heard, in monotonic seconds."""
    asked_at = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        moment: float = cursor.fetchone()[0]
    answered_at = time.monotonic()
    clock.heard(moment, asked_at=asked_at, answered_at=answered_at)
    return answered_at


def _let_go(waiting: list["asyncio.Future[None]"]) -> None:
    for caught_up in waiting:
        if not caught_up.done():
            caught_up.set_result(None)


def read(tenant_id: str | None = None) -> dict[str, tuple[list[KeyEntry], TenantEntry]]:
    """What the database holds of one tenant, or of all: live keys and deployments of active tenants."""
    only = {} if tenant_id is None else {"tenant_id": tenant_id}
    with scoping.operator():
        tenants = Tenant.objects.select_related("plan").filter(active=True)
        if tenant_id is not None:
            tenants = tenants.filter(pk=tenant_id)
        deployments: dict[str, dict[str, DeploymentEntry]] = defaultdict(dict)
        for row in with_versions(Deployment.across_tenants.filter(**only)):
            try:
                deployments[row.tenant_id][row.name] = _deployment_entry(row)
            except (KeyError, TypeError, ValueError):
                logger.exception("%s of %s serves a version that cannot be read", row.name, row.tenant_id)
        keys: dict[str, list[ApiKey]] = defaultdict(list)
        for key in ApiKey.across_tenants.filter(revoked_at=None, **only):
            keys[key.tenant_id].append(key)
        limits: dict[str, list[QuotaLimit]] = defaultdict(list)
        for limit in QuotaLimit.across_tenants.filter(**only):
            limits[limit.tenant_id].append(limit)
        capped = set(SpendCap.across_tenants.filter(**only).values_list("tenant_id", flat=True))
        found = {}
        for tenant in tenants:
            entry = _tenant_entry(
                tenant, deployments[tenant.pk], limits[tenant.pk], capped=tenant.pk in capped
            )  # fmt: skip
            found[tenant.pk] = ([*_key_entries(keys[tenant.pk], entry)], entry)
        return found


def _deployment_entry(row: Deployment) -> DeploymentEntry:
    return DeploymentEntry(
        name=row.name,
        version=_version_entry(row.version),
        canaries=tuple((_version_entry(one.version), one.weight) for one in row.targets.all()),
        labels={one.name: _version_entry(one.version) for one in row.labels.all()},
        shadow=None if row.shadow is None else _version_entry(row.shadow),
        sticky=row.sticky,
        paused=row.paused,
        limits=_limits(row),
        cache_seconds=row.cache_seconds,
        bounds=_bounds(row),
    )


def _limits(row: Deployment) -> DeploymentLimits | None:
    found = DeploymentLimits(row.requests_per_minute, row.concurrency, row.rows_per_request, row.queue_rows)
    return None if found == DeploymentLimits() else found


def _bounds(row: Deployment) -> Bounds | None:
    if row.rollback_error_rate is None and row.rollback_p99_ms is None:
        return None
    return Bounds(
        row.rollback_error_rate, row.rollback_p99_ms, row.rollback_window_seconds, row.rollback_minimum_requests
    )


def _version_entry(version: ModelVersion) -> VersionEntry:
    return VersionEntry(
        id=version.pk,
        tenant_id=version.tenant_id,
        model=version.model.name,
        number=version.number,
        recipe=version.recipe,
        manifest=version.manifest,
        manifest_seal=version.manifest_seal,
        signature=signature_from_json(version.manifest["signature"]),
    )


def _tenant_entry(
    tenant: Tenant, deployments: dict[str, DeploymentEntry], rows: list[QuotaLimit], *, capped: bool
) -> TenantEntry:
    narrower: dict[str, tuple[Limit, ...]] = {}
    for limit in quota_limits.effective(plan=tenant.plan, rows=rows, capped=capped).values():
        narrower[limit.scope] = (*narrower.get(limit.scope, ()), limit)
    limits = narrower.pop(quota_limits.TENANT, ())
    return TenantEntry(id=tenant.pk, name=tenant.name, deployments=deployments, limits=limits, narrower=narrower)


def _key_entries(keys: list[ApiKey], tenant: TenantEntry) -> Iterator[KeyEntry]:
    """One that cannot be read is refused, and harms no other."""
    for key in keys:
        try:
            yield _key_entry(key, tenant)
        except ValueError:
            logger.exception("%s of %s has networks that cannot be read", key.pk, tenant.id)


def _key_entry(key: ApiKey, tenant: TenantEntry) -> KeyEntry:
    return KeyEntry(
        id=key.pk,
        digest=bytes(key.digest),
        tenant=tenant,
        scopes=frozenset(key.scopes),
        expires_at=_seconds(key.expires_at),
        networks=api_keys.networks_of(key),
        may_call=None if key.deployments is None else frozenset(key.deployments),
    )


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
