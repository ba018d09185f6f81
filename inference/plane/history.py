"""The way of this process's statistics into the database: the differences of its tallies, every few seconds.

The hot path adds to tallies as it would without. They are looked at between requests, and a thread brings what is new.
A parcel that could not be brought is tried again under its number, so that it never counts twice.
"""

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connection
from django.utils import timezone

from inference import deployment_statistics
from inference.deployment_statistics import Counts, Parcel
from inference.plane.statistics import Key, Statistics, Tally

# How often parcels are made: a minute is a multiple of it, so that none is of two.
PARCEL_SECONDS = 10
RETRY_SECONDS = 2.0
FORGET_SECONDS = 3600.0
# So many parcels wait while they cannot be brought, an hour's worth; then the oldest is given up.
MOST_WAITING = 360
# A tally whose version is deployed no longer is looked at so often: what was under way still ends in it.
LAST_LOOKS = 6
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Followed:
    """A tally, and what it had counted when it was looked at last."""

    key: Key
    tally: Tally
    seen: Tally = dataclasses.field(default_factory=Tally)
    looks_left: int = LAST_LOOKS

    @property
    def has_changed(self) -> bool:
        now, seen = self.tally, self.seen
        return (now.requests, now.failed, now.batches) != (seen.requests, seen.failed, seen.batches)


@dataclass(frozen=True, slots=True)
class Packed:
    """What changed in one piece of a minute, by then and now; `at` in Unix seconds."""

    number: int
    at: float
    changes: list[tuple[Key, Tally, Tally]]


class History:
    """Looks at tallies on the event loop, and brings what is new in a thread of its own."""

    def __init__(self, statistics: Statistics, *, source: str, now: float) -> None:
        self._statistics = statistics
        self._source = source
        self._followed: list[Followed] = []
        self._step = now // PARCEL_SECONDS
        self._number = 0
        self._packed: queue.SimpleQueue[Packed | None] = queue.SimpleQueue()
        self._waiting: deque[Parcel] = deque(maxlen=MOST_WAITING)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="statistics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look(self, now: float, *, last: bool = False) -> None:
        """Packs what was counted since the last parcel, if it is time; `now` in Unix seconds. On the event loop."""
        step = now // PARCEL_SECONDS
        if step == self._step and not last:
            return
        at, self._step = self._step * PARCEL_SECONDS, step
        self._followed += [Followed(*new) for new in self._statistics.taken_new()]
        changes = []
        for one in self._followed:
            if one.has_changed:
                before, one.seen = one.seen, one.tally.copy()
                changes.append((one.key, before, one.seen))
            if not self._statistics.has(one.key, one.tally):
                one.looks_left -= 1
        self._followed = [one for one in self._followed if one.looks_left]
        if changes:
            self._number += 1
            self._packed.put(Packed(self._number, at, changes))

    def bring(self) -> None:
        """Brings everything that is packed, until something fails. In any thread but the event loop's."""
        while not self._packed.empty():
            self._unpack(self._packed.get())
        while self._waiting and self._attempt(self._waiting[0]):
            self._waiting.popleft()

    def stop(self) -> None:
        """Brings what is there, once, and ends."""
        self._stopping = True
        self._packed.put(None)
        self._thread.join()

    def _run(self) -> None:
        forgot_at = -FORGET_SECONDS
        try:
            while not self._stopping:
                with contextlib.suppress(queue.Empty):
                    self._unpack(self._packed.get(timeout=RETRY_SECONDS))
                self.bring()
                if time.monotonic() - forgot_at > FORGET_SECONDS:
                    forgot_at = time.monotonic()
                    self._forget()
            self.bring()
        finally:
            connection.close()

    def _unpack(self, packed: Packed | None) -> None:
        if packed is None:
            return
        if len(self._waiting) == MOST_WAITING:
            logger.warning("an hour of statistics could not be brought; those of %s are given up", self._waiting[0].at)
        counts: dict[Key, Counts] = {}
        for key, before, after in packed.changes:
            counts.setdefault(key, Counts()).add(difference(before, after))
        at = datetime.fromtimestamp(packed.at, UTC)
        self._waiting.append(Parcel(source=self._source, number=packed.number, at=at, counts=counts))

    def _attempt(self, parcel: Parcel) -> bool:
        """Whether the parcel need not be tried again: it was brought, or never can be."""
        try:
            deployment_statistics.take(parcel=parcel)
        except (DataError, IntegrityError):
            logger.exception("statistics of %s can never be taken and are given up", parcel.at)
        except (DatabaseError, InterfaceError, OSError) as error:
            logger.warning("statistics wait and are brought later: %s", str(error).strip())
            connection.close()
            return False
        except Exception:
            logger.exception("statistics of %s are given up", parcel.at)
            connection.close()
        return True

    def _forget(self) -> None:
        try:
            while deployment_statistics.forget_old(now=timezone.now()) >= deployment_statistics.FORGOTTEN_AT_ONCE:
                pass
        except (DatabaseError, InterfaceError, OSError) as error:
            logger.warning("old statistics are forgotten later: %s", str(error).strip())
            connection.close()
        except Exception:  # or the thread would end, and nothing be brought any more
            logger.exception("old statistics are forgotten later")
            connection.close()


def difference(before: Tally, after: Tally) -> Counts:
    """What came to a tally between two looks."""
    faults = after.faults - before.faults
    return Counts(
        answered=after.requests - before.requests,
        client_errors=after.failed - before.failed - faults,
        server_errors=faults,
        rows=after.rows - before.rows,
        batches=after.batches - before.batches,
        batch_rows=after.batch_rows - before.batch_rows,
        cache_hits=after.cache_hits - before.cache_hits,
        queue_us=after.queue_us - before.queue_us,
        compute_us=after.compute_us - before.compute_us,
        total_us=after.total_us - before.total_us,
        histogram={
            index: new - old
            for index, (old, new) in enumerate(zip(before.histogram, after.histogram, strict=True))
            if new != old
        },
    )
