"""The access log: a line of JSON for each answered request, written by a thread ten times a second.

Several processes may write to one file or pipe: each write is of whole lines, and to a pipe no longer than what the
kernel keeps together. A file that was moved away is opened anew, so nobody needs to be told of a rotation.
"""

import functools
import logging
import os
import re
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

OFF, STDOUT = "off", "stdout"
WRITE_SECONDS = 0.1
STOP_SECONDS = 2.0
WARN_SECONDS = 60.0
FILE_BYTES = 1024**2
# What waits for a disk or a reader that does not keep up; lines beyond are dropped, requests never wait.
MOST_LINES = 50_000
PATH_CHARACTERS = 256
# What a caller says of itself is written only if it is short and printable.
CLAIM = re.compile(rb"[\x21-\x7e][\x20-\x7e]{0,127}")
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Access:
    """What the log tells of a request. Never a key, a query, or anything of a body.

    `client_request_id` and `forwarded_for` are what the caller claims; `status` 499 is a caller that left.
    """

    time: str
    request_id: str
    client_request_id: str | None
    plane: str
    tenant: str | None
    key: str | None
    deployment: str | None
    version: str | None
    protocol: str | None
    method: str
    path: str
    status: int
    rows: int | None
    bytes_in: int
    bytes_out: int | None
    queue_us: int | None
    compute_us: int | None
    total_us: int
    client: str | None
    forwarded_for: str | None


class AccessLog:
    """Where the lines go: a file, or standard output."""

    def __init__(self, target: str) -> None:
        self._path = None if target == STDOUT else Path(target)
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._warned_at = -WARN_SECONDS
        self._torn = False
        self._stopping = threading.Event()
        self._file = self._opened()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def add(self, access: Access) -> None:
        """Takes a request's line and returns at once; whatever is wrong with it, the request goes on."""
        if len(self._lines) >= MOST_LINES:
            self._lost += 1
            return
        try:
            self._lines.append(orjson.dumps(access, option=orjson.OPT_APPEND_NEWLINE))
        except (TypeError, ValueError):  # half a surrogate pair in a path
            self._lost += 1

    def close(self) -> None:
        """Writes what waits, and ends; a reader that takes nothing is not waited for."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_SECONDS):
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        if not self._lines:
            return
        piece = b""
        try:
            self._open_if_moved()
            for piece in self._pieces():
                self._write(piece)
        except OSError as error:
            self._lost += piece.count(b"\n") + len(self._lines)
            self._lines.clear()
            self._warn(f"{type(error).__name__}: {error}")
        if self._lost:
            self._warn("it does not keep up")

    def _pieces(self) -> Iterator[bytes]:
        """Whole lines, as many as go into one write."""
        most = select.PIPE_BUF if stat.S_ISFIFO(os.fstat(self._file).st_mode) else FILE_BYTES
        parts: list[bytes] = []
        size = 0
        while self._lines:
            line = self._lines.popleft()
            if parts and size + len(line) > most:
                yield b"".join(parts)
                parts, size = [], 0
            parts.append(line)
            size += len(line)
        if parts:
            yield b"".join(parts)

    def _write(self, piece: bytes) -> None:
        """Writes it all; where only a part of a line could be written, the next one begins a new line."""
        whole = left = memoryview(b"\n" + piece if self._torn else piece)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        finally:
            if len(left) < len(whole):
                self._torn = bool(left)

    def _open_if_moved(self) -> None:
        if self._path is None:
            return
        if self._file >= 0:
            with_this_name = _identity(self._path)
            if with_this_name == _identity(self._file):
                return
            os.close(self._file)
            self._file = -1
        self._file = self._opened()

    def _opened(self) -> int:
        if self._path is None:
            return 1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _warn(self, why: str) -> None:
        """Once a minute at most."""
        if time.monotonic() - self._warned_at < WARN_SECONDS:
            return
        logger.warning("%d lines of the access log %s are lost: %s", self._lost, self._path or STDOUT, why)
        self._warned_at, self._lost = time.monotonic(), 0


@functools.cache
def of_process() -> AccessLog | None:
    """The log that ACCESS_LOG names, opened at the first call; none where it is off."""
    target = settings.ACCESS_LOG
    if target in ("", OFF):
        return None
    try:
        return AccessLog(target)
    except OSError as error:
        raise ImproperlyConfigured(
            f"ACCESS_LOG is {target!r}, which cannot be written: {error}; expected off, stdout or the path of a file."
        ) from error


def written_time(unix_ms: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def claimed(value: bytes | None) -> str | None:
    """What a caller says of itself, if it is fit to be written."""
    return value.decode("ascii") if value is not None and CLAIM.fullmatch(value) else None


def _identity(file: int | Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
