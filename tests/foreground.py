"""`manage.py` as an operator runs it, on a `var` folder of its own with its own PostgreSQL."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.live import ROOT

MANAGE = ("manage.py",)


@contextlib.contextmanager
def var_folder() -> Iterator[Path]:
    """A `var` folder for a PostgreSQL of its own.

    Not under pytest's: for root, PostgreSQL runs as another user, whom each new session of pytest locks out there.
    """
    with tempfile.TemporaryDirectory(prefix="aiaas-") as folder:
        yield Path(folder) / "var"


def environment_of(var: Path, **settings: str) -> dict[str, str]:
    """This process's environment, with that folder and without this process's database."""
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return inherited | {"VAR_DIR": str(var), "PYTHONUNBUFFERED": "1"} | settings


def manage(var: Path, *words: str, start: Sequence[str] = MANAGE) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=ROOT,
        env=environment_of(var),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


class Foreground:
    """A command that runs until it is told to stop; its output is collected line by line."""

    def __init__(self, var: Path, *words: str, start: Sequence[str] = MANAGE, **settings: str) -> None:
        self.var = var
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, *start, *words],
            cwd=ROOT,
            env=environment_of(var, **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def family(self) -> list[psutil.Process]:
        """Every process of it by now, the embedded PostgreSQL included."""
        postmaster = psutil.Process(int((self.var / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]))
        return [*psutil.Process(self.process.pid).children(recursive=True), postmaster]

    def line(self, start: str, seconds: float = 60) -> str:
        """The first line that starts so; waits for it."""
        until(lambda: self._found(start) or self.process.poll() is not None, seconds, self)
        found = self._found(start)
        assert found is not None, f"no line {start!r} in:\n{self.output}"
        return found

    @property
    def url(self) -> str:
        """The site's address, once it answers."""
        return self.line("Docs").split()[1].removesuffix("/api/docs/")

    def stop(self, number: signal.Signals = signal.SIGINT, seconds: float = 60) -> int:
        """Asks it to end, and gives its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(seconds)
        self._reader.join(10)
        return status

    def _found(self, start: str) -> str | None:
        return next((line for line in list(self.lines) if line.startswith(start)), None)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.append(line.rstrip("\n"))


def gone(process: psutil.Process) -> bool:
    """Whether the process has ended; where nobody buries the dead, a zombie has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], object], seconds: float = 20, command: Foreground | None = None) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time\n{command.output if command else ''}"
        time.sleep(0.05)
