"""Who asks at the same time, and whose batches compute before whose.

While several tenants ask, one that has had more than its even share of the engines computes in idle time only: whatever
else wakes up has its processor at once. One that has had far less computes before the others.
"""

import enum
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from inference.neighbours import Neighbours

# Seconds that a thread has computed, and has waited for a processor.
Told = Callable[[], tuple[float, float]]

# So long after a tenant was served it is taken for one that asks: it may come again.
COMPANY_SECONDS = 1.0
# Compute time fades to 1/e in so long.
FADE_SECONDS = 1.0
# Who has had less than this part of an even share is first: all of them together have no more than this of the engines.
QUIET = 0.25
# Who is last stays so while it has this part of the engines, alone, too: its batches would be left without a processor
# beside its own common ones.
BUSY = 0.5
# An engine starves that waits for a processor for longer than it computes, and for so long.
STARVED_SECONDS, REMEMBERED_SECONDS = 0.25, 1.0
# Nobody is last for so long then, for it may have been one long batch that was in the way; if it comes to that again
# soon, for so many times as long.
PAUSE_SECONDS, LONGER, LONGEST_PAUSE_SECONDS = 2.0, 8, 3600.0
logger = logging.getLogger(__name__)


class Rank(enum.IntEnum):
    """Who computes when: `FIRST` as any program, `COMMON` nicer than an event loop, `LAST` in idle time only."""

    FIRST = 0
    COMMON = 1
    LAST = 2


@dataclass(slots=True)
class Use:
    """The compute seconds of a tenant, faded, as of a moment, and when it was served last."""

    seconds: float
    at: float
    served: float
    last: bool = False

    def by(self, now: float) -> float:
        return self.seconds * math.exp((self.at - now) / FADE_SECONDS)


class Company:
    """The tenants that were served lately, here and by `neighbours`; who was served last is at the end.

    Not safe for threads by itself.
    """

    def __init__(self, threads: int, *, neighbours: Neighbours | None = None, ranks: bool = True) -> None:
        self._engines = threads * FADE_SECONDS
        self._ranks = ranks
        self._neighbours = neighbours
        self._elsewhere = 0
        self._uses: OrderedDict[str, Use] = OrderedDict()
        self._pause = PAUSE_SECONDS
        self._paused_until = -math.inf

    @property
    def several(self) -> bool:
        """Whether more than one tenant has been served lately."""
        return self._count > 1

    @property
    def _count(self) -> int:
        return len(self._uses) + self._elsewhere

    def served(self, tenant_id: str, now: float) -> None:
        """Notes who is served now, and forgets who has not been for a while."""
        use = self._uses.get(tenant_id)
        if use is None:
            use = self._uses[tenant_id] = Use(0.0, now, now)
        use.served = now
        self._uses.move_to_end(tenant_id)
        while len(self._uses) > 1 and now - next(iter(self._uses.values())).served >= COMPANY_SECONDS:
            self._uses.popitem(last=False)
        if self._neighbours is not None:
            self._neighbours.served(tenant_id, now)

    def look(self, now: float) -> None:
        """Sees whom the neighbours serve, and whether one of them starved; to be called before ranks are asked for."""
        if self._neighbours is not None:
            self._elsewhere, paused_until = self._neighbours.elsewhere(self._uses, now, seconds=COMPANY_SECONDS)
            self._paused_until = max(self._paused_until, paused_until)

    def charge(self, tenant_id: str, seconds: float, now: float) -> None:
        """Adds compute time to what a tenant has had."""
        use = self._uses.get(tenant_id)
        if use is not None:
            use.seconds, use.at = use.by(now) + seconds, now

    def rank(self, tenant_id: str, now: float) -> Rank:
        """When the tenant's batches compute; that they are last is remembered."""
        if not self._ranks:
            return Rank.COMMON
        use = self._uses.get(tenant_id)
        part = 0.0 if use is None else use.by(now) / self._engines
        if use is not None:
            enough = BUSY if use.last else 1 / self._count if self.several else math.inf
            use.last = part > enough and now >= self._paused_until
            if use.last:
                return Rank.LAST
        return Rank.FIRST if self.several and part < QUIET / self._count else Rank.COMMON

    def pause(self, now: float) -> None:
        """Nobody is last for a while: one that was had next to nothing of a processor."""
        if now < self._paused_until:  # it began before
            return
        again = now - self._paused_until < 2 * self._pause
        self._pause = min(LONGER * self._pause, LONGEST_PAUSE_SECONDS) if again else PAUSE_SECONDS
        self._paused_until = now + self._pause
        logger.warning("who computes in idle time only had no processor: for %.0f s nobody does", self._pause)
        if self._neighbours is not None:
            self._neighbours.pause(self._paused_until)


class Hunger:
    """Whether a thread that computes in idle time only has a processor when it wants one."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._before = told()
        self._computed = self._waited = 0.0

    def starves(self) -> bool:
        """To be asked after each batch; then what was before is forgotten."""
        before, self._before = self._before, self._told()
        self._computed += self._before[0] - before[0]
        self._waited += self._before[1] - before[1]
        starves = self._waited > max(STARVED_SECONDS, self._computed)
        if starves:
            self._computed = self._waited = 0.0
        elif self._computed > REMEMBERED_SECONDS:
            self._computed, self._waited = self._computed / 2, self._waited / 2
        return starves
