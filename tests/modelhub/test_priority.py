"""Who computes comes after who answers: the thread that says so and what it starts, and nobody else."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_django import Settings

from modelhub import priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")
ABOUT = "import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"
Standing = tuple[int, int]  # its scheduling policy and its niceness


def own() -> Standing:
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)


def of_a_child() -> Standing:
    policy, niceness = subprocess.check_output([sys.executable, "-c", ABOUT], text=True).split()
    return int(policy), int(niceness)


def in_a_thread_that_gives_way(ask: Callable[[], Standing], steps: int = priority.ENGINES) -> Standing:
    with ThreadPoolExecutor(1, initializer=priority.give_way, initargs=(steps,)) as thread:
        return thread.submit(ask).result()


@pytest.mark.parametrize("ask", [own, of_a_child])
@pytest.mark.parametrize("steps", [priority.ENGINES, priority.BACKGROUND])
def test_it_is_nicer_by_so_many_steps(ask: Callable[[], Standing], steps: int) -> None:
    policy, niceness = before = own()
    assert in_a_thread_that_gives_way(ask, steps) == (policy, min(priority.NICEST, niceness + steps))
    assert own() == before


@pytest.mark.parametrize("ask", [own, of_a_child])
def test_it_computes_in_idle_time_only_where_that_is_wanted(ask: Callable[[], Standing], settings: Settings) -> None:
    settings.COMPUTE_SCHEDULING = priority.IDLE
    before = own()
    assert in_a_thread_that_gives_way(ask) == (os.SCHED_IDLE, before[1])
    assert own() == before
