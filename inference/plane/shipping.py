"""Shipping: closed segments go into the ledger, our own every few seconds, and those of producers that died."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connection
from django.utils import timezone

from inference.plane import clock, spool
from inference.plane.spool import LOCK, Idle, Segment
from tenants.errors import NotFound
from tenants.ledger import producers, usage
from tenants.ledger.usage import Brought
from tenants.ledger.usage_sums import Sums

ADOPT_SECONDS = 10.0
# Shipping takes a thirtieth of the time at most, so that it does not slow down who answers: the busier a process is,
# the more segments go in one transaction. None waits for longer than so many seconds more.
PACE, LONGEST_PACE = 30, 3.0
RETRY_SECONDS = 1.0
HEARTBEAT_SECONDS = 2.0
AT_ONCE = 32  # So many segments that wait go in one transaction: their sums are written once.
# What is wrong with a segment's content, so that trying again is of no use.
UNFIT = (ValueError, ArithmeticError, IntegrityError, DataError)
REJECTED = ".rejected"
Found = tuple[Path, datetime | None, Sums | None]
logger = logging.getLogger(__name__)


class Shipper:
    """A thread that ships. What cannot be shipped stays on disk and is tried again."""

    def __init__(self, root: Path, *, producer: str) -> None:
        self._root = root
        self._producer = producer
        self._found: queue.SimpleQueue[Segment | Idle | None] = queue.SimpleQueue()
        self._unshipped: list[Segment] = []
        self._idle: Idle | None = None
        self._heartbeat_at = 0.0
        self._ship_at = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def open(self) -> None:
        """Makes the producer known. Before the first answer: else nobody would miss what it may never deliver."""
        try:
            # By the clock that its events have, not by another that might be set meanwhile.
            usage.open_producer(producer=self._producer, now=datetime.fromtimestamp(clock.now(), UTC))
        finally:
            connection.close()

    def put(self, found: Segment | Idle) -> None:
        """Takes a closed segment, or word that there is none; returns at once."""
        self._found.put(found)

    def stop(self) -> None:
        """Ships what is there, once, and ends; what fails is left for the next process."""
        self._stopping = True
        self._found.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            adopted_at = 0.0
            while not self._stopping:
                if (now := datetime.now(UTC).timestamp()) - adopted_at > ADOPT_SECONDS:
                    adopted_at = now
                    self._attempt(lambda: adopt_dead(self._root))
                self._collect(timeout=RETRY_SECONDS)
                if time.monotonic() >= self._ship_at:
                    self._ship()
            self._collect(timeout=0)
            self._ship()
            if not self._unshipped:
                self._attempt(lambda: usage.close_producer(producer=self._producer, now=timezone.now()))
        finally:
            connection.close()

    def _collect(self, *, timeout: float) -> None:
        """Waits for a segment, and takes all that are there."""
        try:
            found = self._found.get(timeout=timeout) if timeout else self._found.get_nowait()
            while True:
                if isinstance(found, Segment):
                    self._unshipped.append(found)
                elif found is not None:
                    self._idle = found
                found = self._found.get_nowait()
        except queue.Empty:
            pass

    def _ship(self) -> None:
        begun = time.monotonic()
        while self._unshipped:
            some = self._unshipped[:AT_ONCE]
            if not self._attempt(partial(ship, some, producer=self._producer)):
                return
            del self._unshipped[: len(some)]
        now = time.monotonic()
        self._ship_at = now + min((now - begun) * PACE, LONGEST_PACE)
        self._beat()

    def _beat(self) -> None:
        """Every few seconds, though nothing is shipped: all of before has arrived, and the producer lives."""
        idle, now = self._idle, time.monotonic()
        if idle is None or now < self._heartbeat_at:
            return
        watermark = datetime.fromtimestamp(idle.complete_before, UTC)
        if self._attempt(lambda: producers.move_watermark(producer=self._producer, watermark=watermark)):
            self._idle, self._heartbeat_at = None, now + HEARTBEAT_SECONDS

    def _attempt(self, step: Callable[[], object]) -> bool:
        """Whether it was done; what could not be done is tried again later, whatever was wrong."""
        try:
            step()
        except (DatabaseError, InterfaceError, OSError) as error:
            logger.warning("usage waits on disk and is shipped later: %s", str(error).strip())
            connection.close()
            return False
        except Exception:
            logger.exception("usage waits on disk and is shipped later")
            connection.close()
            return False
        return True


def ship(segments: Sequence[Segment], *, producer: str) -> None:
    """Puts segments into the ledger in one transaction, where a second time changes nothing; removes their files."""
    _take([(one.path, datetime.fromtimestamp(one.complete_before, UTC), one.sums) for one in segments], producer)


def adopt_dead(root: Path) -> int:
    """Ships the segments of producers whose process has died, torn tails cut; says how many producers there were."""
    adopted = 0
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        lock = spool.adopt(folder)
        if lock is None:
            continue
        try:
            _adopt(folder)
            adopted += 1
        finally:
            os.close(lock)
    spool.remove_empty(root)
    return adopted


def rejected_in(root: Path) -> list[Path]:
    """The files of the segments that the ledger could not take."""
    return sorted(root.glob(f"*/*{REJECTED}"))


def retry(root: Path, segment_id: str) -> bool:
    """Tries a rejected segment again; whether the ledger did not have it yet. What was wrong with it is raised."""
    path = next((path for path in rejected_in(root) if path.stem == segment_id), None)
    if path is None:
        raise NotFound(f"There is no rejected segment {segment_id[:100]!r} in {root}.")
    new = usage.take_segment(segment_id=path.stem, producer=path.parent.name, data=path.read_bytes(), watermark=None)
    producers.taken_after_all(segment_id=path.stem)
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    return new


def _adopt(folder: Path) -> None:
    """The end of a segment that is no whole frame belongs to an answer that was never sent."""
    producer = folder.name
    left: list[Found] = [(path, None, None) for path in spool.segments_of(folder)]
    for first in range(0, len(left), AT_ONCE):
        _take(left[first : first + AT_ONCE], producer)
    usage.close_producer(producer=producer, now=timezone.now())
    (folder / LOCK).unlink()
    if not any(folder.iterdir()):  # else a rejected segment waits for the operator
        folder.rmdir()
    logger.info("adopted the usage of %s, whose process had died", producer)


def _take(found: Sequence[Found], producer: str) -> None:
    """Into the ledger, and off the disk. One that the ledger can never take is put aside, so that others go on."""
    brought = [Brought(path.stem, path.read_bytes(), watermark, sums) for path, watermark, sums in found]
    try:
        usage.take_segments(producer=producer, segments=brought)
    except UNFIT as error:
        if len(found) == 1:
            _put_aside(found[0][0], producer, error)
            return
        for one in found:  # to see which it is
            _take([one], producer)
    else:
        for path, *_ in found:
            path.unlink()


def _put_aside(path: Path, producer: str, error: Exception) -> None:
    logger.error(
        "%s cannot be taken into the ledger and is put aside: an operator must look at it", path, exc_info=error
    )
    aside = path.with_suffix(REJECTED)
    producers.rejected(
        segment_id=path.stem, producer=producer, host=os.uname().nodename, path=str(aside), reason=str(error).strip()
    )
    path.rename(aside)
