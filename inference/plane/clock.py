"""The clock: the database's time, as this process knows it without asking.

Quotas and bills tell their periods by it, so that a host whose own clock is off puts nothing into the wrong one.
"""

import time
from typing import Final

DRIFT = 1e-3  # So much a second an old measurement may have become wrong by.


class Clock:
    """Seconds since 1970 by the database, carried on by the host's monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()  # until the database is heard
        self._measured_at = float("-inf")
        self._doubt = 0.0

    def at(self, monotonic: float) -> float:
        """The database's time in Unix seconds at a moment of the host's monotonic clock."""
        return monotonic + self._offset

    def heard(self, database_time: float, *, asked_at: float, answered_at: float) -> None:
        """Takes a reading, unless an earlier one is more exact still. Both of ours are monotonic seconds."""
        doubt = (answered_at - asked_at) / 2
        if doubt <= self._doubt + (answered_at - self._measured_at) * DRIFT:
            self._offset = database_time - (asked_at + answered_at) / 2
            self._measured_at, self._doubt = answered_at, doubt


_clock: Final = Clock()


def now() -> float:
    """The database's time in Unix seconds."""
    return _clock.at(time.monotonic())


def at(monotonic: float) -> float:
    """The same at another moment of the host's monotonic clock."""
    return _clock.at(monotonic)


def heard(database_time: float, *, asked_at: float, answered_at: float) -> None:
    """Takes a reading of the database's clock."""
    _clock.heard(database_time, asked_at=asked_at, answered_at=answered_at)
