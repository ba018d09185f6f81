"""Whether this host leaves a process that wakes up now and then without a processor, when others keep them busy.

Several busy processes run in one session, as a server's threads do, and sleepers in sessions of their own, as
PostgreSQL's processes: each needs a few milliseconds of a processor now and then. Two rounds: sessions are equal, and
the busy one is nicer. See docs/operations.md.
"""

import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from aiaas_site import database_first

SECONDS = 15.0
SLEEP, WORK = 0.5, 0.004
SLEEPERS = 3
LIGHT_SLEEPS = (0.0003, 0.0006, 0.0009, 0.0012)
Waits = list[float]


def main() -> None:
    context = multiprocessing.get_context("fork")
    print(f"Linux {platform.release()}, {os.cpu_count()} processors, shared out "
          f"{'by session' if database_first.is_shared_by_session() else 'without sessions'}")  # fmt: skip
    print(f"{SLEEPERS} processes, each in a session of its own, want {WORK * 1e3:g} ms of a processor every {SLEEP} s:")
    for nicer in (False, True):
        found: SimpleQueue[Waits] = context.SimpleQueue()
        round_ = context.Process(target=_round, args=(found, nicer))
        round_.start()
        waits = sorted(wait for _ in range(SLEEPERS) for wait in found.get())
        round_.join()
        print(f"  the busy session is {'nicer' if nicer else 'as nice'}: {len(waits)} times, waited "
              f"{waits[len(waits) // 2]:.1f} ms in the middle, {waits[-1]:,.1f} ms at worst, "
              f"{sum(waits):,.0f} ms in all")  # fmt: skip


def _round(found: "SimpleQueue[Waits]", nicer: bool) -> None:
    os.setsid()
    if nicer:
        database_first.give_way()
    busy = [_started(_hog) for _ in range(os.cpu_count() or 1)]
    busy += [_started(_light, seconds) for seconds in LIGHT_SLEEPS]
    time.sleep(1.0)
    for sleeper in [_started(_sleeper, found) for _ in range(SLEEPERS)]:
        sleeper.join()
    for process in busy:
        process.kill()


def _started(target: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    process = multiprocessing.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _hog() -> None:
    os.nice(5)
    while True:
        pass


def _light(seconds: float) -> None:
    while True:
        _work(0.0002)
        time.sleep(seconds)


def _sleeper(found: "SimpleQueue[Waits]") -> None:
    """How many milliseconds each piece of work waited for a processor, told at the end."""
    os.setsid()
    waits: Waits = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        before = _waited()
        time.sleep(SLEEP)
        _work(WORK)
        waits.append(_waited() - before)
    found.put(waits)


def _work(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def _waited() -> float:
    """Milliseconds that this process was ready to run and did not."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e6


if __name__ == "__main__":
    main()
