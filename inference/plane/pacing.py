"""The pace of refusals: what a tenant asks beyond what it may takes little of the time that others need.

A refusal costs the loop nearly as much as an answer. A tenant that is refused now and then is told at once; one that
floods is told later and later, and meanwhile sends no more on that connection. What is held back is bounded, because
each holds a connection and its request in memory; beyond that a tenant is told at once.
"""

import random
import resource

# So many refusals a second of a tenant, for each process, are told in turn; these cost it a few hundredths of its time.
PER_SECOND = 500
# So many come at once before any is held back.
BURST = 50
LONGEST_SECONDS = 2.0
REMEMBERED = 1024
# Of the connections that the process may have, so many at most wait for a refusal, of all tenants together.
CONNECTIONS_SHARE = 4
MOST_HELD = 4096
MOST_HELD_BYTES = 32 * 1024**2


class Pace:
    """When each tenant may be told of its next refusal. On the event loop only."""

    def __init__(self, most_held: int | None = None) -> None:
        self._next: dict[str, float] = {}
        self._most_held = _most_held() if most_held is None else most_held
        self._held = self._held_bytes = 0

    def hold(self, size: int) -> bool:
        """Whether one more refusal, of a request of so many bytes, may be held back. If so, `told` follows."""
        if self._held >= self._most_held or self._held_bytes + size > MOST_HELD_BYTES:
            return False
        self._held += 1
        self._held_bytes += size
        return True

    def told(self, size: int) -> None:
        """A refusal that was held back has been told."""
        self._held -= 1
        self._held_bytes -= size

    def delay(self, tenant_id: str, now: float) -> float:
        """So many seconds the refusal is to be held back; `now` is of a clock that only goes forward.

        Where more wait than there are moments for, they share the later half of the time: all at its end, they would
        come again all at once.
        """
        if len(self._next) >= REMEMBERED:
            self._next = {tenant: moment for tenant, moment in self._next.items() if moment > now}
        due = max(self._next.get(tenant_id, 0.0), now - BURST / PER_SECOND)
        if due >= now + LONGEST_SECONDS:
            return LONGEST_SECONDS * random.uniform(0.5, 1.0)
        self._next[tenant_id] = due + 1 / PER_SECOND
        return max(0.0, due - now)


def _most_held() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_HELD if allowed == resource.RLIM_INFINITY else min(MOST_HELD, allowed // CONNECTIONS_SHARE)
