"""Leases: blocks of quota that this process has taken from the tenants' buckets and spends in memory.

The warm path only counts down. A block that runs low is filled up in the background, and so is that of the next minute
for who asks all the time; one that is empty is filled while a request waits: that request, and those that come after
it, wait for one query. All leases of a tenant are filled by one task at a time, in one transaction: a request gets its
units of every bucket, or none of any.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, close_old_connections

from inference.plane import clock
from inference.plane.directory import KeyEntry, TenantEntry
from inference.plane.rate_limit import Lease, RateLimit
from tenants.errors import OverQuota, Refusal, Unavailable
from tenants.limits import quota_limits, quotas, spend_caps
from tenants.limits.quota_limits import Address, Limit
from tenants.limits.quotas import Ask, Grant, Held
from tenants.models import Period, QuotaMeter

BLOCK_SHARE = 20
LARGEST_BLOCK = 50_000
# So long it is waited for what other processes hold idle, each time a little longer, before a request is refused.
RECALL_SECONDS = (0.02, 0.05, 0.1)
# Who has asked in so many last seconds of a period has the next one leased so soon after it begins; periods that end
# later than this are not planned.
RECENT_SECONDS = 2.0
RENEWED_AFTER = 0.002
PLANNED_SECONDS = 120.0
ORDER = list(Period)
Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Applying:
    """The leases that a request spends from: its rows of `leases`, and of `slots` one each while it is under way."""

    holding: "Holding"
    leases: tuple[Lease, ...]
    slots: tuple[Lease, ...]
    rate: RateLimit = field(init=False)
    renewed_at: float = 0.0

    def __post_init__(self) -> None:
        self.rate = RateLimit(self.leases, self.slots)


@dataclass(slots=True)
class Holding:
    """All that this process holds of a tenant's buckets. A lease stays here when its limit goes, for it may return."""

    entry: TenantEntry
    leases: dict[Address, Lease] = field(default_factory=dict)
    narrowed: dict[tuple[str, str], Applying] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    plain: Applying = field(init=False)


# What is made for each request writes out its constructor, for one that dataclasses make is not compiled.
@dataclass(slots=True, init=False)
class Spent:
    """Units taken for a request at a moment; given back if it comes to nothing."""

    leases: tuple[Lease, ...]
    slots: tuple[Lease, ...]
    rows: int
    at: float

    def __init__(self, leases: tuple[Lease, ...], slots: tuple[Lease, ...], rows: int, at: float) -> None:
        self.leases = leases
        self.slots = slots
        self.rows = rows
        self.at = at

    def give_back(self) -> None:
        for lease in self.leases:
            if lease.starts_at <= self.at < lease.ends_at:
                lease.units += self.rows
        self.leave()

    def leave(self) -> None:
        """The request is under way no more."""
        for slot in self.slots:
            slot.units += 1
        self.slots = ()


class Leases:
    """All leases of this process. Used on the event loop."""

    def __init__(self, *, producer: str, in_thread: Callable[..., "asyncio.Future[Any]"]) -> None:
        self._producer = producer
        self._in_thread = in_thread
        self._holdings: dict[str, Holding] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def spend(self, key: KeyEntry, deployment: str, rows: int) -> Spent | None:
        """Takes units for so many rows from each bucket that applies, or none if a lease does not cover them."""
        now = clock.now()
        applying = self.of(key, deployment)
        if not rows:
            return Spent((), (), 0, now)
        leases, slots = applying.leases, applying.slots
        for lease in leases:
            if lease.units < rows or lease.ends_at <= now or lease.starts_at > now:
                return None
        for slot in slots:
            if slot.units < 1:
                return None
        low = False
        for lease in leases:
            lease.units -= rows
            if lease.units < lease.low and lease.remaining:
                low = True
        for slot in slots:
            slot.units -= 1
        if low and not applying.holding.lock.locked():
            self._spawn(self._top_up(applying))
        return Spent(leases, slots, rows, now)

    async def fill(self, key: KeyEntry, deployment: str, rows: int) -> None:
        """Returns when the leases cover so many rows; refuses when a quota is used up."""
        applying = self.of(key, deployment)
        for wait in (*RECALL_SECONDS, None):
            # A task of its own: what it is granted is kept, though the caller may leave meanwhile.
            refusal = await asyncio.shield(self._spawn(self._fill(applying, rows, recall=wait is not None)))
            if refusal is None:
                return
            lease, held_elsewhere = refusal
            if wait is None or not held_elsewhere:
                raise self._refusal(lease, rows)
            await asyncio.sleep(wait)

    def of(self, key: KeyEntry, deployment: str) -> Applying:
        """What a request of this key to this deployment spends from, by the tenant's limits as they are now."""
        holding = self._holdings.get(key.tenant.id)
        if holding is None or holding.entry is not key.tenant:
            holding = self._renewed(key.tenant)
        if not holding.entry.narrower:
            return holding.plain
        return self._narrowed(holding, key.id, deployment)

    def known(self, key: KeyEntry, deployment: str) -> Applying:
        """The same for who came before limits changed: an entry of the past changes nothing."""
        holding = self._holdings.get(key.tenant.id)
        if holding is None:
            return self.of(key, deployment)
        return self._narrowed(holding, key.id, deployment) if holding.entry.narrower else holding.plain

    def recall(self, payload: str) -> None:
        """Another process was refused units: those of that bucket that are not in use here go back."""
        tenant_id, producer, *address = json.loads(payload)
        holding = self._holdings.get(tenant_id)
        if holding is None or producer == self._producer:
            return
        lease = holding.leases.get(tuple(address))
        if lease is not None:
            self._hand_back(holding, [lease])

    async def stop(self) -> None:
        """Returns when nothing more is leased; what is held is released with the producer."""
        self._stopped = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _renewed(self, tenant: TenantEntry) -> Holding:
        """The tenant's entry was replaced: what is held of a limit that is another now goes back, to be asked anew."""
        holding = self._holdings.get(tenant.id)
        if holding is None:
            holding = self._holdings[tenant.id] = Holding(tenant)
        limits = {limit.address: limit for limits in (tenant.limits, *tenant.narrower.values()) for limit in limits}
        changed = []
        for address, lease in holding.leases.items():
            if (limit := limits.get(address)) != lease.limit:
                lease.limit, lease.dry_until = limit or lease.limit, 0.0
                changed.append(lease)
        holding.entry = tenant
        holding.narrowed.clear()
        holding.plain = self._applying(holding, tenant.limits)
        self._hand_back(holding, changed)
        return holding

    def _narrowed(self, holding: Holding, key_id: str, deployment: str) -> Applying:
        found = holding.narrowed.get((key_id, deployment))
        if found is None:
            narrower, limits = holding.entry.narrower, holding.entry.limits
            for scope in quotas.scopes_of(key=key_id, deployment=deployment)[1:]:
                limits += narrower.get(scope, ())
            found = holding.narrowed[key_id, deployment] = self._applying(holding, limits)
        return found

    def _applying(self, holding: Holding, limits: Iterable[Limit]) -> Applying:
        found = []
        for limit in sorted(limits, key=lambda limit: ORDER.index(Period(limit.period))):
            lease = holding.leases.get(limit.address)
            if lease is None:
                lease = holding.leases[limit.address] = Lease(limit)
            found.append(lease)
        slots = [lease for lease in found if lease.limit.meter == QuotaMeter.CONCURRENCY]
        return Applying(holding, tuple([lease for lease in found if lease not in slots]), tuple(slots))

    async def _fill(self, applying: Applying, rows: int, *, recall: bool) -> tuple[Lease, bool] | None:
        """Fills the leases until they cover the request; else says which cannot, and whether others hold of it."""
        holding = applying.holding
        async with holding.lock:
            while lacking := [
                (lease, need)
                for lease, need in _needs(applying, rows)
                if not lease.covers(need, clock.now())
            ]:  # fmt: skip
                now = clock.now()
                early = max(lease.starts_at for lease, _ in lacking) - now
                if early > 0:  # the database is a little ahead of our clock, and the period has begun there already
                    await asyncio.sleep(early)
                    continue
                for lease, need in lacking:
                    if now < lease.dry_until and need >= lease.dry_from:
                        return lease, lease.dry_elsewhere
                missing = [(lease, need - (lease.units if lease.ends_at > now else 0)) for lease, need in lacking]
                for (lease, need), grant in zip(lacking, await self._lease(holding, missing, recall), strict=True):
                    if grant.refused:
                        lease.refused(need, now=now, recalled=recall)
                        return lease, lease.dry_elsewhere
        self._plan(applying)
        return None

    def _plan(self, applying: Applying) -> None:
        """Sees to it that the next period is leased soon after this one ends, if there is somebody who asks."""
        ends_at = min((lease.ends_at for lease in applying.leases), default=0.0)
        wait = ends_at - clock.now() - RECENT_SECONDS
        if ends_at <= applying.renewed_at or wait > PLANNED_SECONDS:
            return
        applying.renewed_at = ends_at
        asyncio.get_running_loop().call_later(max(0.0, wait), self._watch, applying, ends_at)

    def _watch(self, applying: Applying, ends_at: float) -> None:
        """Keeps in mind what the leases have, which is less when the period ends if somebody has asked."""
        wait = max(0.0, ends_at - clock.now()) + RENEWED_AFTER
        asyncio.get_running_loop().call_later(wait, self._renew, applying, _units(applying))

    def _renew(self, applying: Applying, before: int) -> None:
        holding = applying.holding
        is_current = any(applying is one for one in (holding.plain, *holding.narrowed.values()))
        if is_current and _units(applying) != before and not holding.lock.locked():
            self._spawn(self._fill(applying, 1, recall=False))

    async def _top_up(self, applying: Applying) -> None:
        """Fills what runs low; who waits for it asks again, so what is refused here is nobody's refusal."""
        async with applying.holding.lock:
            low = [(lease, 1) for lease in applying.leases if lease.units < lease.low and lease.remaining]
            if low:
                await self._lease(applying.holding, low, recall=False)

    async def _lease(self, holding: Holding, missing: list[tuple[Lease, int]], recall: bool) -> list[Grant]:
        if self._stopped:
            raise Unavailable("The server stops; ask again, and another answers.", retry_after=1)
        asks = [Ask(*lease.limit.address, wanted=_wanted(lease, need), minimum=need) for lease, need in missing]
        grants: list[Grant] = await self._database(
            quotas.lease, tenant_id=holding.entry.id, producer=self._producer, asks=asks, recall=recall
        )
        for (lease, _), grant in zip(missing, grants, strict=True):
            lease.take(grant)
        return grants

    def _hand_back(self, holding: Holding, leases: list[Lease]) -> None:
        """What is not in use goes back to the buckets, in the background."""
        now = clock.now()
        back = [(lease, lease.units) for lease in leases if lease.units and lease.ends_at > now]
        for lease, units in back:
            lease.units, lease.remaining = 0, lease.remaining + units
        if back and not self._stopped:
            held = [Held(*lease.limit.address, lease.period_start, units) for lease, units in back]
            self._spawn(self._give_back(holding, held))

    async def _give_back(self, holding: Holding, held: list[Held]) -> None:
        async with holding.lock:  # before anything is asked for anew
            await self._database(quotas.give_back, tenant_id=holding.entry.id, producer=self._producer, held=held)

    async def _database(self, verb: Callable[..., Result], **arguments: Any) -> Result:
        try:
            found: Result = await self._in_thread(_closing_old_connections, verb, arguments)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("a quota lease could not be had: %s", str(error).strip())
            raise Unavailable("The quota cannot be checked at the moment.", retry_after=1) from error
        return found

    def _refusal(self, lease: Lease, rows: int) -> Refusal:
        limit, left = lease.limit, lease.left
        found = lease.grant.headroom if lease.grant else None
        after = lease.ends_at - clock.now()
        if found is not None and found.predictions is not None and found.predictions <= lease.remaining:
            return spend_caps.reached(found, retry_after=after)
        if limit.meter == QuotaMeter.CONCURRENCY:
            return OverQuota(
                f"{quota_limits.whose(limit)} allows {limit.limit:,} requests under way at once, and so many are.",
                retry_after=1,
            )
        return OverQuota(
            f"{quota_limits.whose(limit)} allows {limit.limit:,} predictions a {limit.period}, and {left:,} are left "
            f"of this {limit.period}; this request has {rows:,}.",
            retry_after=after,
        )

    def _spawn(self, step: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # logged already; a request that waits asks again


def _needs(applying: Applying, rows: int) -> Iterable[tuple[Lease, int]]:
    for lease in applying.leases:
        yield lease, rows
    for slot in applying.slots:
        yield slot, 1


def _units(applying: Applying) -> int:
    return sum([lease.units for lease in applying.leases])


def _wanted(lease: Lease, minimum: int) -> int:
    share = LARGEST_BLOCK if lease.limit.limit is None else lease.limit.limit // BLOCK_SHARE
    return max(minimum, min(share, LARGEST_BLOCK), 1)


def _closing_old_connections(verb: Callable[..., Result], arguments: dict[str, Any]) -> Result:
    try:
        return verb(**arguments)
    finally:
        close_old_connections()
