"""Leases: blocks of quota that this process has taken from the tenants' buckets and spends in memory.

The warm path only counts down. A block that runs low is filled up in the background, one that is empty while a request
waits: that request, and those that come after it, wait for one query.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, close_old_connections

from inference.plane.directory import TenantEntry
from tenants import quotas
from tenants.errors import OverQuota, Unavailable
from tenants.models import Period

BLOCK_SHARE = 20
LARGEST_BLOCK = 50_000
LOW_SHARE = 4
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Lease:
    """What this process may still spend of one bucket. Times in Unix seconds."""

    period: Period
    limit: int
    units: int = 0
    remaining: int = 0
    block: int = 1
    ends_at: float = 0.0
    filling: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class Spent:
    """Units taken for a request; given back if it comes to nothing."""

    parts: tuple[tuple[Lease, float], ...]
    rows: int

    def give_back(self) -> None:
        for lease, ends_at in self.parts:
            if lease.ends_at == ends_at:
                lease.units += self.rows


class Leases:
    """All leases of this process. Used on the event loop."""

    def __init__(self, *, producer: str, in_thread: Callable[..., "asyncio.Future[quotas.Grant]"]) -> None:
        self._producer = producer
        self._in_thread = in_thread
        self._of_tenant: dict[str, tuple[TenantEntry, tuple[Lease, ...]]] = {}

    def spend(self, tenant: TenantEntry, rows: int) -> Spent | None:
        """Takes units for so many rows from each of the tenant's buckets, or none if a lease does not cover them."""
        if not rows:
            return Spent(parts=(), rows=0)
        leases = self.of(tenant)
        now = time.time()
        for lease in leases:
            if lease.units < rows or lease.ends_at <= now:
                return None
        for lease in leases:
            lease.units -= rows
            if lease.units < lease.block // LOW_SHARE and lease.filling is None and lease.remaining:
                lease.filling = asyncio.ensure_future(self._fill(tenant, lease, 1))
                lease.filling.add_done_callback(
                    asyncio.Task.exception
                )  # logged already; a request that waits asks again
        return Spent(parts=tuple([(lease, lease.ends_at) for lease in leases]), rows=rows)

    async def fill(self, tenant: TenantEntry, rows: int) -> None:
        """Returns when the tenant's leases cover so many rows; refuses when its quota is used up."""
        for lease in self.of(tenant):
            await self._fill_for(tenant, lease, rows)

    def of(self, tenant: TenantEntry) -> tuple[Lease, ...]:
        """The tenant's leases, one for each limit of its plan."""
        known, leases = self._of_tenant.get(tenant.id, (None, ()))
        if known is not tenant:  # its entry was replaced: a lease stays while its limit does
            limits = ((Period.MINUTE, tenant.per_minute), (Period.MONTH, tenant.per_month))
            before = {(lease.period, lease.limit): lease for lease in leases}
            leases = tuple(
                before.get((period, limit)) or Lease(period=period, limit=limit)
                for period, limit in limits
                if limit is not None
            )
            self._of_tenant[tenant.id] = (tenant, leases)
        return leases

    async def _fill_for(self, tenant: TenantEntry, lease: Lease, rows: int) -> None:
        """Fills the lease until it covers the request; what fills it already is waited for first."""
        while lease.units < rows or lease.ends_at <= time.time():
            if lease.filling is not None:
                await asyncio.shield(lease.filling)
                continue
            before = lease.units if lease.ends_at > time.time() else 0
            lease.filling = asyncio.ensure_future(self._fill(tenant, lease, rows - before))
            await asyncio.shield(lease.filling)
            if lease.units < rows:
                left = lease.remaining + lease.units
                raise OverQuota(
                    f"The plan allows {lease.limit:,} predictions a {lease.period}, and {left:,} are left of this "
                    f"{lease.period}; this request has {rows:,}.",
                    retry_after=lease.ends_at - time.time(),
                )

    async def _fill(self, tenant: TenantEntry, lease: Lease, minimum: int) -> None:
        try:
            wanted = max(minimum, min(lease.limit // BLOCK_SHARE, LARGEST_BLOCK), 1)
            grant = await self._in_thread(_lease, tenant.id, self._producer, lease.period, wanted, minimum)
            ends_at = grant.period_end.timestamp()
            if ends_at != lease.ends_at:
                lease.units = 0
                lease.ends_at = ends_at
            lease.units += grant.units
            lease.remaining = grant.remaining
            lease.block = max(grant.units, 1)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("a quota lease could not be had: %s", str(error).strip())
            raise Unavailable("The quota cannot be checked at the moment.", retry_after=1) from error
        finally:
            lease.filling = None


def _lease(tenant_id: str, producer: str, period: Period, wanted: int, minimum: int) -> quotas.Grant:
    try:
        return quotas.lease(tenant_id=tenant_id, producer=producer, period=period, wanted=wanted, minimum=minimum)
    finally:
        close_old_connections()
