"""A command that comes after the embedded database: in a nicer session, with its own status and its signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aiaas_site import database_first
from tests.live import ROOT

ABOUT = "import os; print(os.getsid(0) == os.getpid(), open('/proc/self/autogroup').read().split()[-1])"
PATIENT = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1]).write_text("told")
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
while True: time.sleep(0.05)
"""
by_session = pytest.mark.skipif(not database_first.is_shared_by_session(), reason="processors are not shared so here")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aiaas_site.database_first", *arguments]


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_status_is_the_commands_own() -> None:
    assert subprocess.run(command(sys.executable, "-c", "raise SystemExit(7)"), cwd=ROOT, check=False).returncode == 7
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    status = subprocess.run(command(sys.executable, "-c", killed), cwd=ROOT, check=False).returncode
    assert status == 128 + signal.SIGKILL


@by_session
def test_the_command_has_a_session_that_is_nice_and_ours_stays_as_it_is() -> None:
    before = database_first.OWN_SESSION.read_text()
    done = subprocess.run(command(sys.executable, "-c", ABOUT), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(database_first.NICENESS)]
    assert database_first.OWN_SESSION.read_text() == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 3), (signal.SIGKILL, -signal.SIGKILL)])
def test_whoever_ends_it_ends_the_command(tmp_path: Path, number: int, status: int) -> None:
    mark = tmp_path / "mark"
    runs = subprocess.Popen(command(sys.executable, "-c", PATIENT, str(mark)), cwd=ROOT)
    wait_until(mark.exists)
    os.kill(runs.pid, number)
    assert runs.wait(timeout=30) == status
    wait_until(lambda: mark.read_text() == "told")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [((), 2, database_first.USAGE), (("no-such-program", "x"), 127, "There is no program 'no-such-program'.")],
)
def test_without_a_command_that_can_be_run_it_says_so(words: tuple[str, ...], status: int, said: str) -> None:
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (status, said)


@pytest.mark.parametrize(("text", "expected"), [("1\n", True), ("0\n", False), (None, False)])
def test_the_system_says_whether_it_shares_by_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: bool
) -> None:
    path = tmp_path / "sched_autogroup_enabled"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(database_first, "SHARED_BY_SESSION", path)
    assert database_first.is_shared_by_session() is expected
