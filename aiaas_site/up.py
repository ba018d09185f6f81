"""The whole site in the foreground: migrations, the server, the workers beside it, one clean stop."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

import httpx
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from aiaas_site.env import BASE_DIR, VAR_DIR
from aiaas_site.supervisor import Program, Supervisor, how_it_ended

READY_WITHIN_SECONDS = 60.0
PORT_FREE_WITHIN_SECONDS = 15.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What TensorFlow says at its start concerns nobody here.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


class CannotStart(Exception):
    """The site does not come up; the text says why and what to do."""


class RunningAlready(CannotStart):
    """Another process serves this `var` folder."""

    def __init__(self, *, url: str, pid: int) -> None:
        super().__init__(f"The site is running already at {url} (process {pid}); stop that one first.")
        self.url = url


class Stopped(BaseException):
    """Somebody asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@dataclass(frozen=True, slots=True)
class Site:
    """A site that answers."""

    url: str


@contextlib.contextmanager
def running(
    *,
    host: str,
    port: int,
    say: Callable[[str], None],
    logs: Path | None = None,
    settings: dict[str, str] | None = None,
) -> Iterator[Site]:
    """A site that answers, until the block is left. The processes' output goes to the folder `logs`, if given.

    Port 0 is a free one. Raises CannotStart; SIGINT, SIGTERM and SIGHUP raise Stopped in the block.
    """
    with _signals_as_exceptions(), _the_only_one() as lock:
        port = _claimed_port(host, port, patient=lock.left_behind)
        url = f"http://{_in_url(host)}:{port}"
        lock.note(url)
        migrate(say=say)
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        with _caretaker() as held:
            programs = (
                Program("server", (sys.executable, "-m", "aiaas_site.server", "--host", host, "--port", str(port))),
                Program("trainer", (sys.executable, "manage.py", "trainer")),
                Program("batch worker", (sys.executable, "manage.py", "batch_worker")),
                Program("webhook sender", (sys.executable, "manage.py", "webhook_sender")),
            )
            supervisor = Supervisor(
                programs,
                say=say,
                environment=QUIET | os.environ | (settings or {}),
                folder=BASE_DIR,
                logs=logs,
                held=held,
            )
            try:
                supervisor.start()
                _wait_until_ready(url, supervisor)
                supervisor.watch()
                yield Site(url=url)
            finally:
                _ignore_signals()
                supervisor.stop()


def migrate(*, say: Callable[[str], None]) -> None:
    """Brings the database to the state that this code expects."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        say("Preparing the database …")
    call_command("migrate", verbosity=0, skip_checks=False)
    connection.close()


@dataclass(slots=True)
class _Lock:
    file: TextIO
    left_behind: bool

    def note(self, url: str) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write(json.dumps({"pid": os.getpid(), "url": url}))
        self.file.flush()


@contextlib.contextmanager
def _the_only_one() -> Iterator[_Lock]:
    """Holds the lock of the `var` folder; what a holder that was killed wrote is still in the file."""
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    with (VAR_DIR / "up.lock").open("a+") as file:
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = json.loads(file.read() or "{}")
            raise RunningAlready(url=holder.get("url", "?"), pid=holder.get("pid", 0)) from None
        yield _Lock(file, left_behind=bool(file.read()))
        file.truncate(0)


def _claimed_port(host: str, port: int, *, patient: bool) -> int:
    """The port to serve on. After a run that was killed its server may need a moment to leave the port."""
    deadline = time.monotonic() + (PORT_FREE_WITHIN_SECONDS if patient else 0)
    while True:
        try:
            with socket.create_server((host, port), family=_family(host)) as listener:
                return int(listener.getsockname()[1])
        except OSError as error:
            if time.monotonic() >= deadline:
                raise CannotStart(
                    f"Port {port} of {host} cannot be used: {os.strerror(error.errno or 0)}. "
                    "Choose another one with --port (0: any free one)."
                ) from error
            time.sleep(0.2)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _in_url(host: str) -> str:
    """The host as a client on this machine names it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _caretaker() -> Iterator[tuple[int, ...]]:
    """A process that stops the embedded PostgreSQL should this one be killed; gives what the children must hold."""
    if not (VAR_DIR / "postgres").exists():
        yield ()
        return
    ours, theirs = os.pipe()
    caretaker = subprocess.Popen(
        [sys.executable, "-m", "aiaas_site.caretaker"],
        cwd=BASE_DIR,
        stdin=ours,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(ours)
    try:
        yield (theirs,)
    finally:
        os.close(theirs)
        caretaker.wait()


def _wait_until_ready(url: str, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        for child in supervisor.children:
            status = child.process.poll()
            if status is not None:
                words = supervisor.last_words(child.program.name)
                raise CannotStart(f"The {child.program.name} {how_it_ended(status)}.\n{words}".rstrip())
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz", timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise CannotStart(f"The server did not answer at {url}/healthz within {READY_WITHIN_SECONDS:g} s.")


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        _ignore_signals()
        raise Stopped(number)

    for number in SIGNALS:
        signal.signal(number, stop)
    yield


def _ignore_signals() -> None:
    """From here to the end of the process: it is stopping already, and stopping is bounded in time."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
