"""Children of the site: each is stopped once, started again when it ends, and never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from aiaas_site.supervisor import Program, Supervisor, how_it_ended
from tests.live import ROOT

OBEDIENT = """
import pathlib, signal, sys, time
def end(*_):
    with open(sys.argv[1], "a") as file: file.write("TERM\\n")
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
while True: time.sleep(0.05)
"""
DEAF = OBEDIENT.replace("sys.exit(0)", "return")
BRIEF = "import sys; print('no luck'); sys.exit(3)"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervise(tmp_path: Path, said: list[str]) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def start(code: str, grace: float = 5) -> Supervisor:
        program = Program("worker", (sys.executable, "-c", code, str(tmp_path / "mark")))
        supervisor = Supervisor(
            [program], say=said.append, environment=os.environ, folder=ROOT, logs=tmp_path, grace=grace, first_delay=0.1
        )
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in made:
        supervisor.stop()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def test_a_child_gets_one_sigterm_and_is_waited_for(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    supervisor = supervise(OBEDIENT)
    until((tmp_path / "mark").exists)
    supervisor.stop()
    assert (tmp_path / "mark").read_text() == "TERM\n"
    assert supervisor.process("worker").returncode == 0


def test_a_deaf_child_is_killed_when_the_grace_is_over(
    supervise: Callable[..., Supervisor], tmp_path: Path, said: list[str]
) -> None:
    supervisor = supervise(DEAF, grace=0.5)
    until((tmp_path / "mark").exists)
    supervisor.stop()
    assert supervisor.process("worker").returncode == -signal.SIGKILL
    assert said == ["The worker did not stop within 0.5 s; killing it."]


def test_a_child_that_dies_is_started_again_and_said_so(
    supervise: Callable[..., Supervisor], tmp_path: Path, said: list[str]
) -> None:
    supervisor = supervise(OBEDIENT)
    until((tmp_path / "mark").exists)
    supervisor.watch()
    first = supervisor.process("worker")
    first.kill()
    until(lambda: supervisor.process("worker") is not first)
    assert supervisor.process("worker").poll() is None
    assert said == ["The worker was ended by SIGKILL; starting it again in 0.1 s."]


def test_the_pause_grows_while_a_child_keeps_failing(supervise: Callable[..., Supervisor], said: list[str]) -> None:
    supervisor = supervise(BRIEF)
    supervisor.watch()
    until(lambda: len(said) >= 3)
    assert [line.rpartition(" in ")[2] for line in said[:3]] == ["0.1 s.", "0.2 s.", "0.4 s."]
    assert supervisor.last_words("worker").splitlines()[-1] == "no luck"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from aiaas_site.supervisor import Program, Supervisor
program = Program("worker", (sys.executable, "-c", {OBEDIENT!r}, {str(tmp_path / "mark")!r}))
supervisor = Supervisor([program], say=print, environment=os.environ, folder=Path.cwd())
supervisor.start()
print(supervisor.process("worker").pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        until((tmp_path / "mark").exists)
        parent.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert (tmp_path / "mark").read_text() == "TERM\n"


def test_endings_are_said_in_words() -> None:
    assert how_it_ended(3) == "ended with status 3"
    assert how_it_ended(-9) == "was ended by SIGKILL"
