"""The spool: each answered request's usage on disk before its answer is sent.

A producer is one process with a folder and a lock file of its own. It appends frames to its current segment with one
`write` a batch. A segment is closed about every second or 4 MiB and shipped into the ledger (`shipping.py`).
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import google_crc32c

from inference.plane import clock
from tenants.errors import Unavailable
from tenants.ledger.usage_sums import Counted, Sums

OPEN, CLOSED = ".open", ".closed"
LOCK = "lock"
SEGMENT_BYTES = 4 * 1024**2
SEGMENT_SECONDS = 1.0
# So much longer than its deadline a request may be under way: the loop may be late to end it.
LATE_SECONDS = 5.0
HEADER = struct.Struct("<II")
logger = logging.getLogger(__name__)


class SpoolFailed(Unavailable):
    """Usage cannot be recorded, so nothing is given away: the request is refused."""


def frame(payload: bytes) -> bytes:
    """Length, CRC32C, payload."""
    return HEADER.pack(len(payload), google_crc32c.value(payload)) + payload


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed segment on disk. Its id is unique for ever; all events before `complete_before` are in it or earlier."""

    id: str
    path: Path
    complete_before: float
    sums: Sums | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """All events before `complete_before` are in segments that were closed until now."""

    complete_before: float


class Clock:
    """The clock as it was read while requests that are under way may have come in: it may be set meanwhile."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._readings: deque[tuple[float, float]] = deque()
        self.read()

    def read(self) -> None:
        now = time.monotonic()
        self._readings.append((now, clock.now()))
        while len(self._readings) > 1 and self._readings[1][0] <= now - self._seconds:
            self._readings.popleft()

    def earliest(self) -> float:
        """No request that is under way can have come in at an earlier time by this clock."""
        self.read()
        found = self._readings[0][1]
        for (before, _), (at, wall) in zip(self._readings, islice(self._readings, 1, None), strict=False):
            found = min(found, wall - (at - before))  # set back right after the reading before it
        return found


class Spool:
    """The producer's side. Used by the event loop's thread only."""

    def __init__(
        self,
        root: Path,
        *,
        durable: bool,
        in_flight_seconds: float,
        closed: Callable[[Segment], None],
        idle: Callable[[Idle], None] = lambda _: None,
    ) -> None:
        self.producer = f"plane-{os.uname().nodename[:20]}-{os.getpid()}-{secrets.token_hex(6)}"
        self.folder, self._lock = _new_folder(root, self.producer)
        self._durable = durable
        self._clock = Clock(in_flight_seconds + LATE_SECONDS)
        self._closed = closed
        self._idle = idle
        self._number = 0
        self._file = -1
        self._size = 0
        self._sums = Sums()
        self._failed = False
        self._unsynced: list[asyncio.Future[None]] = []
        self._syncing = False

    def append(self, frames: bytes, counted: Sequence[Counted] = ()) -> None:
        """Writes whole frames or none; what cannot be written raises SpoolFailed.

        What they count is added up beside, if it is told of all: the shipper then need not read them.
        """
        if self._failed:
            raise SpoolFailed("A write of usage records was lost; this process answers no more.", retry_after=5)
        try:
            if self._file < 0:
                self._open()
            written = os.write(self._file, frames)
            if written != len(frames):
                raise OSError(f"{written} of {len(frames)} bytes were written")
        except OSError as error:
            self._take_back()
            logger.error("usage cannot be recorded: %s", error)
            raise SpoolFailed(
                "Usage cannot be recorded at the moment, so nothing is answered.", retry_after=5
            ) from error
        self._size += written
        if counted:
            self._sums.add(counted, written)
        if self._size >= SEGMENT_BYTES:
            self.rotate_if_possible()

    @property
    def durable(self) -> bool:
        """Whether an answer waits until its record survives the death of the machine."""
        return self._durable

    async def synced(self) -> None:
        """Returns when everything appended so far is on the disk; requests share a sync."""
        done = asyncio.get_running_loop().create_future()
        self._unsynced.append(done)
        if not self._syncing:
            self._syncing = True
            asyncio.ensure_future(self._sync())  # noqa: RUF006 (its waiters hold it)
        await done

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsynced:
            waiting, self._unsynced = self._unsynced, []
            try:
                if self._file >= 0:
                    await loop.run_in_executor(None, _sync_and_close, os.dup(self._file))
                outcome: Exception | None = None
            except OSError as error:
                # What an fsync lost cannot be known: the segment is abandoned, and nothing more is acknowledged.
                self._failed = True
                logger.critical("fdatasync of the spool failed: %s", error)
                outcome = SpoolFailed("A write of usage records was lost; this process answers no more.", retry_after=5)
            for done in waiting:
                if not done.done():
                    done.set_exception(outcome) if outcome else done.set_result(None)
        self._syncing = False

    @property
    def failed(self) -> bool:
        """Whether records may have been lost, so that this process answers no more."""
        return self._failed

    def tick(self) -> None:
        """Once a second: closes the current segment, or says that there was nothing to record."""
        self._clock.read()
        if self._size:
            self.rotate_if_possible()
        elif not self._failed:
            self._idle(Idle(self._clock.earliest()))

    def rotate(self) -> None:
        """Closes the current segment, if it holds anything, and hands it on to be shipped."""
        if self._file < 0 or not self._size or self._failed:
            return
        if self._durable:
            self._sync_or_stop()
        opened = self._path(OPEN)
        closed = opened.rename(opened.with_suffix(CLOSED))
        os.close(self._file)
        sums, self._sums = self._sums, Sums()
        self._file, self._size = -1, 0
        self._closed(Segment(id=closed.stem, path=closed, complete_before=self._clock.earliest(), sums=sums))

    def _sync_or_stop(self) -> None:
        """A sync that failed is not tried again: a second one may succeed though the data is lost."""
        try:
            os.fdatasync(self._file)
        except OSError:
            self._failed = True
            raise

    def rotate_if_possible(self) -> None:
        """Closes the current segment; one that cannot be closed stays the current one."""
        try:
            self.rotate()
        except OSError as error:
            logger.error("a segment could not be closed: %s", error)

    def release(self) -> None:
        """Gives up the folder: gone if everything was shipped, else left to whoever adopts it."""
        if not segments_of(self.folder):
            (self.folder / LOCK).unlink()
            self.folder.rmdir()
        os.close(self._lock)

    def _open(self) -> None:
        self._number += 1
        self._file = os.open(self._path(OPEN), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._size = 0
        if self._durable:
            _sync_and_close(os.open(self.folder, os.O_RDONLY))

    def _take_back(self) -> None:
        """Cuts what a failing write left of a frame, so that the segment ends with a whole one."""
        if self._file >= 0:
            try:
                os.ftruncate(self._file, self._size)
            except OSError as error:
                self._failed = True
                logger.critical("a torn record stays at the end of the segment: %s", error)

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.producer}.{self._number:08d}{suffix}"


def _new_folder(root: Path, producer: str) -> tuple[Path, int]:
    """A producer's folder and its lock; it has its name only once it is locked, so that none adopts it meanwhile."""
    draft = root / f".{producer}"
    while True:
        draft.mkdir(parents=True)
        try:
            lock = os.open(draft / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # taken for what a dead process left
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return draft.rename(root / producer), lock
        except FileNotFoundError:
            os.close(lock)


def remove_empty(root: Path) -> None:
    """Removes folders without segments that processes left which died while they made or gave up theirs."""
    for folder in root.iterdir():
        if folder.name.startswith("."):
            lock = adopt(folder)
            with contextlib.suppress(OSError):  # its process lives, or another one is at it
                if lock is not None:
                    (folder / LOCK).unlink()
                folder.rmdir()
            if lock is not None:
                os.close(lock)
        elif not (folder / LOCK).exists():
            with contextlib.suppress(OSError):  # a rejected segment waits there for the operator
                folder.rmdir()


def _sync_and_close(file: int) -> None:
    try:
        os.fsync(file)
    finally:
        os.close(file)


def adopt(folder: Path) -> int | None:
    """The lock of a dead producer's folder, or none while its process lives or another adopts it."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def segments_of(folder: Path) -> list[Path]:
    """The segments in a producer's folder, oldest first, the one being written among them."""
    return sorted(path for path in folder.iterdir() if path.suffix in (OPEN, CLOSED))
