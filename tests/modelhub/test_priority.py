"""Who computes comes after who answers: the thread that says so and what it starts, and nobody else."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from pytest_django import Settings

from modelhub import priority
from tests.live import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")
ABOUT = "import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"
Standing = tuple[int, int]  # its scheduling policy and its niceness


def own() -> Standing:
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)


def of_a_child() -> Standing:
    policy, niceness = subprocess.check_output([sys.executable, "-c", ABOUT], text=True).split()
    return int(policy), int(niceness)


def in_a_thread(give_way: Callable[[], None], ask: Callable[[], Standing]) -> Standing:
    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        return thread.submit(ask).result()


@pytest.mark.parametrize("ask", [own, of_a_child])
@pytest.mark.parametrize("steps", [priority.ENGINES, priority.BACKGROUND])
def test_it_is_nicer_by_so_many_steps(ask: Callable[[], Standing], steps: int) -> None:
    policy, niceness = before = own()
    assert in_a_thread(partial(priority.give_way, steps), ask) == (policy, min(priority.NICEST, niceness + steps))
    assert own() == before


@pytest.mark.parametrize("ask", [own, of_a_child])
def test_an_engine_computes_in_idle_time_only_where_that_is_wanted(
    ask: Callable[[], Standing], settings: Settings
) -> None:
    policy, niceness = before = own()
    assert in_a_thread(priority.engine_gives_way, ask) == (policy, min(priority.NICEST, niceness + priority.ENGINES))
    settings.COMPUTE_SCHEDULING = priority.IDLE
    assert in_a_thread(priority.engine_gives_way, ask) == (os.SCHED_IDLE, niceness)
    assert own() == before


@pytest.mark.parametrize(
    ("scheduling", "allowed", "processes", "threads", "given"),
    [
        ("idle", {0, 1}, 1, 2, [[0, 1]]),
        ("idle", {0, 1}, 2, 1, [[0], [1]]),
        ("idle", {2, 5, 7, 9}, 2, 2, [[2, 7], [5, 9]]),
        ("idle", {0, 1}, 2, 2, [[0, 0], [1, 1]]),
        ("idle", {4}, 1, 2, [[4, 4]]),
        ("idle", {0, 1, 2}, 1, 2, [[]]),  # the system places them, for one processor has none of them
        ("nice", {0, 1}, 1, 2, [[]]),
    ],
)
def test_what_computes_in_idle_time_is_spread_over_all_processors(
    monkeypatch: pytest.MonkeyPatch, settings: Settings,
    scheduling: str, allowed: set[int], processes: int, threads: int, given: list[list[int]],
) -> None:  # fmt: skip
    monkeypatch.setattr("os.sched_getaffinity", lambda process: allowed)
    settings.COMPUTE_SCHEDULING, settings.INFERENCE_PROCESSES = scheduling, processes
    found = []
    for settings.INFERENCE_PROCESS in range(processes):
        found.append(priority.engine_processors(threads))
    assert found == given


def test_a_process_without_settings_gives_way() -> None:
    """As a training's does, which is given none of the site's."""
    code = "import os; from modelhub import priority; priority.give_way(); print(os.getpriority(os.PRIO_PROCESS, 0))"
    bare = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    told = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT, env=bare)
    assert int(told) == min(priority.NICEST, own()[1] + priority.ENGINES)
