"""One lease as this process knows it, and what answers say of the leases that apply to them."""

from dataclasses import dataclass
from datetime import datetime

from tenants.limits import quota_limits
from tenants.limits.quota_limits import Limit
from tenants.limits.quota_periods import ALWAYS
from tenants.limits.quotas import Grant
from tenants.models import Period

LOW_SHARE = 4
WARNED_SHARE = 5  # Answers carry a warning once less than this part is left of a day or a month.
# So long a refusal is remembered: a flood that is refused asks the database no more often.
DRY_SECONDS = 0.2
DRY_SECONDS_RECALLED = 0.02
WINDOWS = {Period.MINUTE: 60, Period.DAY: 86400, Period.MONTH: 2592000}
HeaderList = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Lease:
    """What this process may still spend of one bucket. Times in Unix seconds of the database.

    `remaining` was left for everybody when the last block came; `dry_from` units are refused until `dry_until`
    without asking again.
    """

    limit: Limit
    units: int = 0
    remaining: int = 0
    low: int = 0
    starts_at: float = 0.0
    ends_at: float = 0.0
    period_start: datetime = ALWAYS[0]
    dry_from: int = 0
    dry_until: float = 0.0
    dry_elsewhere: bool = False
    grant: Grant | None = None

    @property
    def left(self) -> int:
        return self.remaining + self.units

    def covers(self, units: int, now: float) -> bool:
        return self.units >= units and self.starts_at <= now < self.ends_at

    def take(self, grant: Grant) -> None:
        """Adds what was granted; what is left of a period that ended is worth nothing."""
        ends_at = grant.period_end.timestamp()
        if ends_at != self.ends_at:
            self.units, self.ends_at = 0, ends_at
            self.period_start, self.starts_at = grant.period_start, grant.period_start.timestamp()
        self.units += grant.units
        self.remaining = grant.remaining
        self.grant = grant
        if grant.units:
            self.low = grant.units // LOW_SHARE

    def refused(self, need: int, *, now: float, recalled: bool) -> None:
        """Remembers that so many units cannot be had; for a moment only if others were asked to give back theirs."""
        self.dry_elsewhere = bool(self.grant and self.grant.elsewhere)
        self.dry_from = need
        self.dry_until = now + (DRY_SECONDS_RECALLED if recalled and self.dry_elsewhere else DRY_SECONDS)


class RateLimit:
    """The RateLimit headers (draft-ietf-httpapi-ratelimit-headers) of some leases, and a warning if little is left."""

    __slots__ = ("_ending", "_lasting", "_policy", "_warned")

    def __init__(self, leases: tuple[Lease, ...], slots: tuple[Lease, ...]) -> None:
        ending, lasting = _named(leases), _named(slots)
        self._ending = [(f"{name};r=", lease) for name, lease in ending]
        self._lasting = [(f"{name};r=", lease) for name, lease in lasting]
        self._warned = [(name, _warn_at(one.limit), one) for name, one in ending if _warn_at(one.limit)]
        policies = ", ".join([_policy(name, lease.limit) for name, lease in [*ending, *lasting]])
        self._policy = (b"ratelimit-policy", policies.encode()) if policies else None

    def headers(self, now: float) -> HeaderList:
        """What is left of each limit, as far as this process knows it already, and what the limits are."""
        if self._policy is None:
            return []
        parts = [
            f"{name}{lease.remaining + lease.units};t={int(lease.ends_at - now) if lease.ends_at > now else 0}"
            for name, lease in self._ending
            if lease.ends_at  # else nothing is known of it yet
        ]
        if self._lasting:
            parts += [f"{name}{lease.left}" for name, lease in self._lasting if lease.ends_at]
        if not parts:
            return [self._policy]
        found = [(b"ratelimit", ", ".join(parts).encode()), self._policy]
        for _, warn_at, lease in self._warned:
            if lease.remaining <= warn_at and (warning := self._warning()):
                found.append((b"x-quota-warning", warning.encode()))
                break
        return found

    def _warning(self) -> str:
        near = [
            (name, one.limit.limit or 1, one.left) for name, at, one in self._warned if one.left <= at and one.ends_at
        ]
        return ", ".join([f"{name};used={100 * (limit - left) // limit}" for name, limit, left in near])


def _named(leases: tuple[Lease, ...]) -> list[tuple[str, Lease]]:
    return [(f'"{quota_limits.name_of(one.limit)}"', one) for one in leases if one.limit.limit is not None]


def _policy(name: str, limit: Limit) -> str:
    window = WINDOWS.get(Period(limit.period))
    return f"{name};q={limit.limit};" + (f"w={window}" if window else 'qu="concurrent-requests"')


def _warn_at(limit: Limit) -> int:
    """From so many units left on an answer warns; 0 for never."""
    return limit.limit // WARNED_SHARE if limit.limit and limit.period in (Period.DAY, Period.MONTH) else 0
