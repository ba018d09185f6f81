"""The directory: every key, tenant and deployment in memory, kept fresh by the feed (`feed.py`).

A warm request reads it without a query and without a lock. Tenants are replaced whole, on the event loop. A process
that has not heard the database for `STALE_AFTER` seconds refuses rather than trusts its copy.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelhub.signatures import Signature
from tenants.errors import NotFound, Unavailable
from tenants.keys.addresses import Network
from tenants.keys.api_keys import KeyRefused
from tenants.limits.quota_limits import Limit

STALE_AFTER = 5.0


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
    label: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", f"{self.model}@{self.number}")


@dataclass(frozen=True, slots=True)
class DeploymentLimits:
    """What a deployment takes of its callers; none means no limit of its own."""

    requests_per_minute: int | None = None
    concurrency: int | None = None
    rows_per_request: int | None = None
    queue_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a new version must not pass, over a window of so many seconds, once it has had so many requests."""

    error_rate: float | None
    p99_ms: int | None
    window_seconds: int
    minimum_requests: int


@dataclass(frozen=True, slots=True)
class DeploymentEntry:
    """A name that a tenant's clients call: `version` answers what the canaries, by percent, do not.

    `previous` answered until `since` (monotonic seconds), and goes on while the version that came after it is loaded;
    in the same way `version` stands in for a canary that came at `split_at`.
    """

    name: str
    version: VersionEntry
    previous: VersionEntry | None = None
    since: float = 0.0
    canaries: tuple[tuple[VersionEntry, int], ...] = ()
    split_at: float = 0.0
    labels: Mapping[str, VersionEntry] = field(default_factory=dict)
    shadow: VersionEntry | None = None
    sticky: str = "request"
    paused: bool = False
    limits: DeploymentLimits | None = None
    cache_seconds: int = 0
    bounds: Bounds | None = None

    @property
    def addressable(self) -> list[VersionEntry]:
        """The versions that a client reaches, the main one first; the shadow is none of them."""
        return [self.version, *(version for version, _ in self.canaries), *self.labels.values()]

    @property
    def versions(self) -> list[VersionEntry]:
        """All versions that have to be at hand."""
        return [*self.addressable, *([self.shadow] if self.shadow is not None else [])]


@dataclass(frozen=True, slots=True)
class TenantEntry:
    """What the plane knows of a tenant."""

    id: str
    name: str
    deployments: dict[str, DeploymentEntry]
    limits: tuple[Limit, ...] = ()
    narrower: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)  # by scope: of keys and deployments


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A live key. `networks` are those it works from, `may_call` the names it may call; none means any."""

    id: str
    digest: bytes
    tenant: TenantEntry
    scopes: frozenset[str]
    expires_at: float | None
    networks: tuple[Network, ...] | None = None
    may_call: frozenset[str] | None = None

    def deployment(self, name: str) -> DeploymentEntry | None:
        """The deployment of this name, if the key may call it: one that it may not is not there."""
        if self.may_call is not None and name not in self.may_call:
            return None
        return self.tenant.deployments.get(name)

    def deployments(self) -> dict[str, DeploymentEntry]:
        """Those that the key may call, by name."""
        found = self.tenant.deployments
        if self.may_call is None:
            return found
        return {name: one for name, one in found.items() if name in self.may_call}


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
            raise KeyRefused
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

    def age(self, monotonic: float) -> float:
        """Seconds since the database was heard."""
        return monotonic - self._heard_at

    def versions(self) -> dict[str, VersionEntry]:
        """Every version that some deployment serves, by id."""
        return {
            version.id: version
            for tenant in self._tenants.values()
            for one in tenant.deployments.values()
            for version in one.versions
        }

    def deployments(self) -> list[DeploymentEntry]:
        """Every deployment of every tenant."""
        return [one for tenant in self._tenants.values() for one in tenant.deployments.values()]

    def until_loaded(self) -> dict[str, str]:
        """By the id of a version that is new under a deployment, that of the one before it."""
        return {
            one.version.id: one.previous.id
            for tenant in self._tenants.values()
            for one in tenant.deployments.values()
            if one.previous is not None
        }

    def served(self) -> set[tuple[str, str, str]]:
        """Every (tenant's id, deployment's name, MODEL@NUMBER) that is served."""
        return {
            (tenant.id, name, version.label)
            for tenant in self._tenants.values()
            for name, one in tenant.deployments.items()
            for version in one.versions
        }

    def heard(self, monotonic: float) -> None:
        self._heard_at = monotonic

    def replace(self, tenant_id: str, keys: list[KeyEntry], tenant: TenantEntry | None) -> None:
        """Puts what was read of a tenant in the place of what was known of it."""
        for digest in self._keys_of.pop(tenant_id, ()):
            self._keys.pop(digest, None)
        before = self._tenants.pop(tenant_id, None)
        if tenant is None:
            return
        if before is not None:
            _remember(before.deployments, tenant.deployments)
        self._tenants[tenant_id] = tenant
        self._keys_of[tenant_id] = [key.digest for key in keys]
        self._keys.update({key.digest: key for key in keys})

    def replace_all(self, found: dict[str, tuple[list[KeyEntry], TenantEntry]]) -> None:
        for tenant_id in self._tenants.keys() - found.keys():
            self.replace(tenant_id, [], None)
        for tenant_id, (keys, tenant) in found.items():
            self.replace(tenant_id, keys, tenant)


def _remember(before: dict[str, DeploymentEntry], now: dict[str, DeploymentEntry]) -> None:
    """Puts into each deployment that serves another version than before which one that was."""
    for name, entry in now.items():
        old = before.get(name)
        if old is None:
            continue
        at = time.monotonic()
        split_at = old.split_at if entry.canaries == old.canaries else at
        if old.version.id != entry.version.id:
            now[name] = replace(entry, previous=old.version, since=at, split_at=split_at)
        else:
            now[name] = replace(entry, previous=old.previous, since=old.since, split_at=split_at)
