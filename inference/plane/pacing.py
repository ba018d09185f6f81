"""The pace of refusals: what a tenant asks beyond what it may takes little of the time that others need.

A refusal costs the loop nearly as much as an answer. A tenant that is refused now and then is told at once; one that
floods is told later and later, and meanwhile sends no more on that connection.
"""

import random

# So many refusals a second of a tenant, for each process, are told; these cost it a few hundredths of its time.
PER_SECOND = 500
# So many come at once before any is held back.
BURST = 50
LONGEST_SECONDS = 2.0
REMEMBERED = 1024


class Pace:
    """When each tenant may be told of its next refusal. On the event loop only."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def delay(self, tenant_id: str, now: float) -> float:
        """So many seconds the refusal is held back; `now` is of a clock that only goes forward.

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
