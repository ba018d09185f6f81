"""Who computes comes after who answers: the thread that says so and what it starts, and nobody else."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import time
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
def test_it_computes_in_idle_time_only(ask: Callable[[], Standing]) -> None:
    _, niceness = before = own()
    assert in_a_thread(priority.give_way_to_all, ask) == (
        os.SCHED_IDLE,
        min(priority.NICEST, niceness + priority.ENGINES),
    )
    assert own() == before


def test_what_computes_in_idle_time_stays_on_the_processor_that_it_is_given() -> None:
    last = max(allowed := os.sched_getaffinity(0))
    with ThreadPoolExecutor(1, initializer=partial(priority.give_way_to_all, last)) as thread:
        assert thread.submit(os.sched_getaffinity, 0).result() == {last}
    assert os.sched_getaffinity(0) == allowed


def slices() -> float:
    """How long the thread that calls asked to finish, in seconds, as the system knows it."""
    attributes = ctypes.create_string_buffer(struct.calcsize(priority.ATTRIBUTES))
    get = {"x86_64": 315, "aarch64": 275}[platform.machine()]
    assert ctypes.CDLL(None).syscall(get, 0, attributes, len(attributes), 0) == 0
    return float(struct.unpack(priority.ATTRIBUTES, attributes.raw)[5] / 1e9)


@pytest.mark.skipif(
    platform.machine() not in priority.SET_ATTRIBUTES or tuple(map(int, platform.release().split(".")[:2])) < (6, 12),
    reason="Linux knows slices of threads since 6.12",
)
@pytest.mark.parametrize(
    ("stand", "seconds"), [(priority.keep_on, priority.FIRST_SLICE), (priority.give_way_to_all, priority.LAST_SLICE)]
)
def test_slices_are_as_long_as_was_asked(stand: Callable[[], None], seconds: float) -> None:
    with ThreadPoolExecutor(1, initializer=stand) as thread:
        assert thread.submit(slices).result() == seconds
    assert slices() not in (priority.FIRST_SLICE, priority.LAST_SLICE)


def test_without_slices_it_computes_by_its_policy_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "SET_ATTRIBUTES", {})
    assert in_a_thread(priority.keep_on, own) == own()
    assert in_a_thread(priority.give_way_to_all, own)[0] == os.SCHED_IDLE


def test_where_idle_time_is_forbidden_it_is_nicer(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.sched_setscheduler", forbidden)
    assert in_a_thread(priority.give_way_to_all, own) == in_a_thread(priority.give_way, own)


def test_a_thread_is_told_how_long_it_has_computed() -> None:
    def told() -> float:
        before, begun = priority.waits(), time.thread_time()
        while time.thread_time() < begun + 0.05:
            pass
        time.sleep(0.05)
        computed, waited = (later - earlier for later, earlier in zip(priority.waits(), before, strict=True))
        assert waited >= 0
        return computed

    with ThreadPoolExecutor(2) as threads:  # by turns, for one waits for the other's lock
        for computed in threads.map(lambda _: told(), range(2)):
            assert 0.045 < computed < 0.08


@pytest.mark.parametrize(
    ("allowed", "processes", "threads", "given"),
    [
        ({0, 1}, 1, 2, [[0, 1]]),
        ({0, 1}, 2, 1, [[0], [1]]),
        ({2, 5, 7, 9}, 2, 2, [[2, 7], [5, 9]]),
        ({0, 1}, 2, 2, [[0, 0], [1, 1]]),
        ({4}, 1, 2, [[4, 4]]),
        ({0, 1, 2}, 1, 2, [[None, None]]),  # the system places them, for one processor has none of them
    ],
)
def test_what_computes_in_idle_time_is_spread_over_all_processors(
    monkeypatch: pytest.MonkeyPatch, settings: Settings,
    allowed: set[int], processes: int, threads: int, given: list[list[int | None]],
) -> None:  # fmt: skip
    monkeypatch.setattr("os.sched_getaffinity", lambda process: allowed)
    settings.INFERENCE_PROCESSES = processes
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
