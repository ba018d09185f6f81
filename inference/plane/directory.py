"""The directory: every key, tenant and deployment in memory, kept fresh by LISTEN/NOTIFY.

A warm request reads it without a query and without a lock. Tenants are replaced whole, on the event loop. A process
that has not heard the database for `STALE_AFTER` seconds refuses rather than trusts its copy.
"""

import asyncio
import logging
import select
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from inference.models import Deployment
from modelhub.models import ModelVersion
from modelhub.signatures import Signature
from modelhub.signatures import from_json as signature_from_json
from tenants import scoping
from tenants.errors import NotFound, Unauthenticated, Unavailable
from tenants.models import ApiKey, Tenant

CHANNEL = "directory"
STALE_AFTER = 5.0
HEARTBEAT = 1.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A version that a deployment serves."""

    id: str
    tenant_id: str
    model: str
    number: int
    recipe: str
    manifest: dict[str, Any]
    manifest_seal: str
    signature: Signature

    @property
    def label(self) -> str:
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, slots=True)
class DeploymentEntry:
    """A name that a tenant's clients call."""

    name: str
    version: VersionEntry


@dataclass(frozen=True, slots=True)
class TenantEntry:
    """What the plane knows of a tenant."""

    id: str
    name: str
    deployments: dict[str, DeploymentEntry]
    per_minute: int | None
    per_month: int | None
    rate_policy: str

    def deployment(self, name: str) -> DeploymentEntry:
        """The tenant's deployment of this name; another tenant's is not there."""
        found = self.deployments.get(name)
        if found is None:
            raise UnknownDeployment(name)
        return found


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A live key."""

    id: str
    digest: bytes
    tenant: TenantEntry
    scopes: frozenset[str]
    expires_at: float | None


class UnknownDeployment(NotFound):
    """The tenant has no deployment of this name; another tenant's is not there either."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no deployment {name!r}.")
        self.name = name


class Directory:
    """The copy in memory. Loading and listening happen in a thread; the loop swaps what it brings."""

    def __init__(self) -> None:
        self._keys: dict[bytes, KeyEntry] = {}
        self._keys_of: dict[str, list[bytes]] = {}
        self._tenants: dict[str, TenantEntry] = {}
        self._heard_at = 0.0

    def key(self, digest: bytes, *, now: float) -> KeyEntry:
        """The live key with this digest. `now` in Unix seconds."""
        found = self._keys.get(digest)
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            raise Unauthenticated("The API key is not known, has expired or was revoked.")
        return found

    def check_fresh(self, monotonic: float) -> None:
        """Fails closed: what may have been revoked is not served."""
        if not self.is_fresh(monotonic):
            raise Unavailable(
                "The service has lost sight of its database and answers again when it is back.", retry_after=2
            )

    def is_fresh(self, monotonic: float) -> bool:
        """Whether the database was heard lately."""
        return monotonic - self._heard_at <= STALE_AFTER

    def versions(self) -> dict[str, VersionEntry]:
        """Every version that some deployment serves, by id."""
        return {d.version.id: d.version for tenant in self._tenants.values() for d in tenant.deployments.values()}

    def heard(self, monotonic: float) -> None:
        self._heard_at = monotonic

    def replace(self, tenant_id: str, keys: list[KeyEntry], tenant: TenantEntry | None) -> None:
        """Puts what was read of a tenant in the place of what was known of it."""
        for digest in self._keys_of.pop(tenant_id, ()):
            self._keys.pop(digest, None)
        self._tenants.pop(tenant_id, None)
        if tenant is None:
            return
        self._tenants[tenant_id] = tenant
        self._keys_of[tenant_id] = [key.digest for key in keys]
        self._keys.update({key.digest: key for key in keys})

    def replace_all(self, found: dict[str, tuple[list[KeyEntry], TenantEntry]]) -> None:
        for tenant_id in self._tenants.keys() - found.keys():
            self.replace(tenant_id, [], None)
        for tenant_id, (keys, tenant) in found.items():
            self.replace(tenant_id, keys, tenant)


def read(tenant_id: str | None = None) -> dict[str, tuple[list[KeyEntry], TenantEntry]]:
    """What the database holds of one tenant, or of all: live keys and deployments of active tenants."""
    only = {} if tenant_id is None else {"tenant_id": tenant_id}
    with scoping.operator():
        tenants = Tenant.objects.select_related("plan").filter(active=True)
        if tenant_id is not None:
            tenants = tenants.filter(pk=tenant_id)
        deployments: dict[str, dict[str, DeploymentEntry]] = defaultdict(dict)
        for row in Deployment.across_tenants.select_related("version__model").filter(**only):
            deployments[row.tenant_id][row.name] = DeploymentEntry(name=row.name, version=_version_entry(row.version))
        keys: dict[str, list[ApiKey]] = defaultdict(list)
        for key in ApiKey.across_tenants.filter(revoked_at=None, **only):
            keys[key.tenant_id].append(key)
        found = {}
        for tenant in tenants:
            entry = _tenant_entry(tenant, deployments[tenant.pk])
            found[tenant.pk] = ([_key_entry(key, entry) for key in keys[tenant.pk]], entry)
        return found


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


def _tenant_entry(tenant: Tenant, deployments: dict[str, DeploymentEntry]) -> TenantEntry:
    limits = (("minute", tenant.plan.predictions_per_minute, 60), ("month", tenant.plan.predictions_per_month, 2592000))
    return TenantEntry(
        id=tenant.pk,
        name=tenant.name,
        deployments=deployments,
        per_minute=tenant.plan.predictions_per_minute,
        per_month=tenant.plan.predictions_per_month,
        rate_policy=", ".join(f'"{name}";q={limit};w={window}' for name, limit, window in limits if limit is not None),
    )


def _key_entry(key: ApiKey, tenant: TenantEntry) -> KeyEntry:
    return KeyEntry(
        id=key.pk,
        digest=bytes(key.digest),
        tenant=tenant,
        scopes=frozenset(key.scopes),
        expires_at=_seconds(key.expires_at),
    )


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


class Feed:
    """The thread that hears of changes and brings them to the loop."""

    def __init__(self, directory: Directory, *, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self._directory = directory
        self._loop = loop
        self._changed = changed
        self._stopping = threading.Event()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name="directory-feed", daemon=True)

    async def start(self) -> None:
        """Returns when everything is loaded; raises what the first load raises."""
        self._thread.start()
        await self._ready

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (DatabaseError, InterfaceError, OSError) as error:
                logger.warning("the directory's feed was lost, trying again: %s", str(error).strip())
                self._on_loop(self._fail_start, error)
                self._stopping.wait(0.5)
            finally:
                connection.close()

    def _listen(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._bring_all()
        while not self._stopping.is_set():
            raw = connection.connection
            select.select([raw], [], [], HEARTBEAT)
            # A query on the listening connection proves that it lives, and whatever was announced before has arrived.
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            heard_at = time.monotonic()
            changed = {notice.payload for notice in raw.notifies}
            raw.notifies.clear()
            if "" in changed:
                self._bring_all()
            else:
                for tenant_id in changed:
                    self._bring(tenant_id)
            self._on_loop(self._directory.heard, heard_at)

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
