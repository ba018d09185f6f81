"""Traffic: what a deployment's own limits let in, counted in this process.

The limits are shared out evenly over the processes of a server, rounded up; several servers each let in their own.
"""

import time
from typing import TYPE_CHECKING

from inference.plane.directory import DeploymentEntry, DeploymentLimits
from tenants.errors import OverQuota, TooLarge

if TYPE_CHECKING:
    from inference.plane.exchange import Exchange


class Gauge:
    """The requests of one deployment: how many are under way, and how many more this minute takes.

    A bucket that holds a minute's requests and fills evenly: a caller that paused may send them all at once.
    """

    __slots__ = ("_filled_at", "_left", "_per_minute", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self._per_minute = 0
        self._left = 0.0
        self._filled_at = 0.0

    def enter(self, name: str, *, per_minute: int | None, concurrency: int | None, now: float) -> None:
        """Takes a place, or refuses."""
        if concurrency is not None and self.under_way >= concurrency:
            raise OverQuota(
                f"{self.under_way} requests of the deployment {name!r} are under way; its limit is {concurrency}.",
                retry_after=1,
            )
        if per_minute is not None:
            self._spend(name, per_minute, now)
        self.under_way += 1

    def leave(self) -> None:
        """Gives the place back."""
        self.under_way -= 1

    def _spend(self, name: str, per_minute: int, now: float) -> None:
        if per_minute != self._per_minute:
            self._per_minute, self._left, self._filled_at = per_minute, float(per_minute), now
        self._left = min(per_minute, self._left + (now - self._filled_at) * per_minute / 60)
        self._filled_at = now
        if self._left < 1:
            raise OverQuota(
                f"The deployment {name!r} takes {per_minute} requests a minute in this process.",
                retry_after=(1 - self._left) * 60 / per_minute,
            )
        self._left -= 1


class Traffic:
    """The gauges of this process, by tenant's id and deployment's name."""

    def __init__(self, *, processes: int) -> None:
        self._processes = processes
        self._gauges: dict[tuple[str, str], Gauge] = {}

    def admit(self, exchange: "Exchange", deployment: DeploymentEntry, limits: DeploymentLimits) -> None:
        """Takes a place for the exchange; it gives it back when it is answered or refused."""
        key = (deployment.version.tenant_id, deployment.name)
        gauge = self._gauges.get(key)
        if gauge is None:
            gauge = self._gauges[key] = Gauge()
        gauge.enter(
            deployment.name,
            per_minute=self._shared(limits.requests_per_minute),
            concurrency=self._shared(limits.concurrency),
            now=time.monotonic(),
        )
        exchange.place = gauge

    def keep_only(self, served: set[tuple[str, str]]) -> None:
        """Forgets the deployments that are there no more."""
        for key in self._gauges.keys() - served:
            del self._gauges[key]

    def _shared(self, limit: int | None) -> int | None:
        return None if limit is None else -(-limit // self._processes)


def check_rows(limits: DeploymentLimits, rows: int, *, queued: int) -> None:
    """Refuses rows above what one request may have, or what may wait."""
    if limits.rows_per_request is not None and rows > limits.rows_per_request:
        raise TooLarge(f"The request has {rows:,} rows; this deployment takes {limits.rows_per_request:,} at once.")
    if limits.queue_rows is not None and queued + rows > max(limits.queue_rows, rows if not queued else 0):
        raise OverQuota(
            f"{queued:,} rows wait already; this deployment lets {limits.queue_rows:,} wait.", retry_after=1
        )
