"""Child processes of the site: started, started again when they end, and stopped once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")
LOOK_EVERY_SECONDS = 0.2
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
STEADY_AFTER_SECONDS = 60.0
GRACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Program:
    """A command to keep running, the word that it is called by, and what its environment has beside the others'."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Child:
    """A running program: its process, and how often in a row it ended soon."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    failures: int = 0
    again_at: float | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps programs running. `held` are file descriptors that stay open in the children."""

    programs: Sequence[Program]
    say: Callable[[str], None]
    environment: Mapping[str, str]
    folder: Path
    logs: Path | None = None
    held: tuple[int, ...] = ()
    grace: float = GRACE_SECONDS
    first_delay: float = FIRST_DELAY_SECONDS
    children: list[Child] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def start(self) -> None:
        """Starts every program once; `watch` keeps them running."""
        for program in self.programs:
            self.children.append(Child(program, self._spawn(program), time.monotonic()))

    def watch(self) -> None:
        """From here on a program that ends is started again, after a pause that grows."""
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Asks every child once to end, waits, and kills what is still there when the grace is over."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        for child in self.children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.grace
        for child in self.children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"The {child.program.name} did not stop within {self.grace:g} s; killing it.")
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The process that runs the program of this name now."""
        return next(child.process for child in self.children if child.program.name == name)

    def last_words(self, name: str, lines: int = 20) -> str:
        """The end of a program's log file."""
        if self.logs is None:
            return ""
        text = (self.logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *program.command]
        log = None if self.logs is None else (self.logs / f"{program.name}.log").open("ab")
        try:
            # A group of its own: the terminal's Ctrl-C reaches it once, through us.
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                pass_fds=self.held,
                process_group=0,
            )
        finally:
            if log is not None:
                log.close()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_SECONDS):
            for child in self.children:
                self._look_after(child, now=time.monotonic())

    def _look_after(self, child: Child, *, now: float) -> None:
        if child.again_at is not None:
            if now >= child.again_at:
                child.process, child.started, child.again_at = self._spawn(child.program), now, None
            return
        if child.process.poll() is None:
            return
        child.failures = 0 if now - child.started > STEADY_AFTER_SECONDS else child.failures + 1
        delay = min(LONGEST_DELAY_SECONDS, self.first_delay * 2 ** max(0, child.failures - 1))
        child.again_at = now + delay
        ending = how_it_ended(child.process.returncode)
        self.say(f"The {child.program.name} {ending}; starting it again in {delay:g} s.")


def how_it_ended(status: int) -> str:
    """A process's return code in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
