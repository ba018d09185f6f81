"""The clock: the database's time, as this process knows it without asking.

Quotas and bills tell their periods by it, so that a host whose own clock is off puts nothing into the wrong one.
"""

import time

DRIFT = 1e-3  # So much a second an old measurement may have become wrong by.


class Clock:
    """Seconds since 1970 by the database, carried on by the host's monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()  # until the database is heard
        self._measured_at = float("-inf")
        self._doubt = 0.0

    def now(self) -> float:
        """The database's time in Unix seconds."""
        return time.monotonic() + self._offset

    def heard(self, database_time: float, *, asked_at: float, answered_at: float) -> None:
        """Takes a reading, unless an earlier one is more exact still. Both of ours are monotonic seconds."""
        doubt = (answered_at - asked_at) / 2
        if doubt <= self._doubt + (answered_at - self._measured_at) * DRIFT:
            self._offset = database_time - (asked_at + answered_at) / 2
            self._measured_at, self._doubt = answered_at, doubt


_clock = Clock()
now = _clock.now
heard = _clock.heard
