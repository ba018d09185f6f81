"""Workers: processes that do one job of a queue at a time; several of them, on several machines, share the queue."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from django.db import InterfaceError, OperationalError, connection

SECONDS_BETWEEN_CLAIMS = 0.5
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_RETRY = 60.0
LEFT_BEHIND_SECONDS = 24 * 3600.0

logger = logging.getLogger(__name__)

Disconnected = (OperationalError, InterfaceError)


class Stopping(Exception):
    """The worker was told to stop."""


class Worker(ABC):
    """Takes jobs until it is told to stop, whatever becomes of the database in between."""

    kind: str  # as the log calls it

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stopping = False

    @abstractmethod
    def run_one(self) -> bool:
        """Does the next job, if there is one."""

    @abstractmethod
    def scratch(self) -> Path:
        """The folder in which each attempt at a job has one of its own."""

    def stop(self, *_: object) -> None:
        """From now on no job is taken, and the one at hand is put back."""
        self._stopping = True

    def tick(self) -> None:
        """What goes on while a job runs. Raises Stopping if that is to end."""
        if self._stopping:
            raise Stopping

    def run_forever(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        remove_left_behind(self.scratch())
        logger.info("%s %s waits for jobs", self.kind, self.name)
        while not self._stopping:
            try:
                if not self.run_one():
                    self._wait(SECONDS_BETWEEN_CLAIMS)
            except Disconnected:
                logger.warning("%s %s cannot reach the database", self.kind, self.name, exc_info=True)
                connection.close()
                self._wait(SECONDS_BETWEEN_CLAIMS)
        logger.info("%s %s stops", self.kind, self.name)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def remove_left_behind(scratch: Path) -> None:
    """Removes the folders of workers that were killed here: those that nobody has written to for a day."""
    horizon = time.time() - LEFT_BEHIND_SECONDS
    for folder in scratch.glob("*_*-*"):  # a job's id, and what tells its attempts apart
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            if folder.stat().st_mtime < horizon:
                shutil.rmtree(folder, ignore_errors=True)


def written(write: Callable[[], None]) -> None:
    """Writes to the database, waiting out an outage for a minute."""
    until = time.monotonic() + SECONDS_TO_RETRY
    while True:
        try:
            write()
            return
        except Disconnected:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(SECONDS_BETWEEN_CLAIMS)
