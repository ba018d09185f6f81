"""Runs a command that comes after the embedded database: `python -m aiaas_site.database_first COMMAND …`.

Where Linux shares the processors out by session (autogroups), niceness counts within a session only, and each process
of PostgreSQL has a session of its own. Linux 6.18 before 6.18.45 then leaves one that wakes up now and then without a
processor for seconds, while it holds locks that everybody waits for; a session that is nicer than others does not do
that to them. So the command has a session of its own, which is nice. docs/operations.md tells it for a site.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from shutil import which
from types import FrameType

SHARED_BY_SESSION = Path("/proc/sys/kernel/sched_autogroup_enabled")
TETHER = Path(__file__).with_name("tether.py")
OWN_SESSION = Path("/proc/self/autogroup")
NICENESS = 5
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NO_PROGRAM = 127  # as shells say it
USAGE = "usage: python -m aiaas_site.database_first COMMAND [ARGUMENT …]"


def main(command: list[str]) -> int:
    """Runs the command to its end and returns its exit status.

    Signals that ask this process to end are passed on, and the command is asked to end where this process is killed.
    """
    if not command:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    program, *arguments = command
    path = which(program)
    if path is None:
        sys.stderr.write(f"There is no program {program!r}.\n")
        return NO_PROGRAM
    tethered = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), path, *arguments]
    child = subprocess.Popen(tethered, start_new_session=True, preexec_fn=give_way)

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        os.killpg(child.pid, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    status = child.wait()
    return status if status >= 0 else 128 - status


def is_shared_by_session() -> bool:
    """Whether this system shares its processors out by session."""
    return SHARED_BY_SESSION.exists() and SHARED_BY_SESSION.read_text().strip() == "1"


def give_way() -> None:
    """Lets the session of this process, which is its own, come after others."""
    if not is_shared_by_session():
        return
    with contextlib.suppress(OSError):  # a few a second are refused: then the command is as nice as others
        OWN_SESSION.write_text(str(NICENESS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
