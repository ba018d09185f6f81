"""Turns: compute time is shared over tenants, whatever their batches cost and however many they bring.

And the threads that take them.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from inference import scheduling
from inference.queueing import HostRows, Queue
from inference.scheduling import COMPANY_SECONDS, Company, EngineThreads, Turns
from inference.work import Reply, Work
from modelhub import priority


@dataclass(eq=False)
class Lane:
    """A fake lane whose batches all take so long."""

    tenant_id: str
    seconds: float = 0.001
    was_alone: bool = True
    queue: Queue = field(default_factory=lambda: Queue(best_rows=1, limit=1, host=HostRows(1), tenant_id="t"))

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None: ...


def served(turns: Turns, batches: int) -> list[Lane]:
    """Which lanes are served, if each has work again as soon as its batch is taken."""
    order = []
    for _ in range(batches):
        lane = turns.next()
        assert lane is not None
        assert isinstance(lane, Lane)
        turns.add(lane)
        turns.charge(lane.tenant_id, lane.seconds)
        order.append(lane)
    return order


@settings(deadline=None)  # a machine that is busy takes its time
@given(st.lists(st.lists(st.floats(1e-4, 2e-2), min_size=1, max_size=4), min_size=2, max_size=5))
def test_tenants_with_endless_work_have_equal_shares_of_compute_time(costs: list[list[float]]) -> None:
    turns = Turns()
    lanes = [Lane(f"t{number}", seconds) for number, own in enumerate(costs) for seconds in own]
    for lane in lanes:
        assert turns.add(lane)
    used = dict.fromkeys([lane.tenant_id for lane in lanes], 0.0)
    for lane in served(turns, 2000):
        used[lane.tenant_id] += lane.seconds
    longest = max(lane.seconds for lane in lanes)
    assert max(used.values()) - min(used.values()) <= 2 * longest


def test_who_comes_after_a_rest_goes_first() -> None:
    turns = Turns()
    flood = [Lane("flood", 0.004) for _ in range(50)]
    for lane in flood:
        turns.add(lane)
    assert {lane.tenant_id for lane in served(turns, 10)} == {"flood"}
    seldom = Lane("seldom", 0.001)
    turns.add(seldom)
    assert turns.next() is seldom


def test_lanes_of_one_tenant_take_turns_and_a_lane_is_announced_once() -> None:
    turns = Turns()
    one, two = Lane("t"), Lane("t")
    assert turns.add(one)
    assert turns.add(two)
    assert not turns.add(one)
    assert served(turns, 4) == [one, two, one, two]
    assert len(turns) == 2


def test_a_debt_is_forgotten_when_nobody_waits() -> None:
    turns = Turns()
    busy = Lane("busy", 10.0)
    turns.add(busy)
    assert turns.next() is busy
    turns.charge("busy", 10.0)
    assert turns.next() is None
    turns.add(busy)
    turns.add(Lane("other", 1.0))
    assert {lane.tenant_id for lane in served(turns, 2)} == {"busy", "other"}


def test_who_is_served_by_turns_has_company_for_a_while() -> None:
    company, later = Company(), COMPANY_SECONDS / 2
    assert not company.served("flood", 100.0)
    assert not company.served("flood", 100.0 + later)
    assert company.served("seldom", 101.0)
    assert company.served("flood", 101.0 + later)
    assert company.served("flood", 101.0 + 2 * later)
    assert not company.served("flood", 101.0 + 4 * later)


# The threads


@dataclass(eq=False)
class Recording(Lane):
    """A fake lane that says how each batch was run: how many requests, and whether as a lone one."""

    queue: Queue = field(default_factory=lambda: Queue(best_rows=8, limit=8, host=HostRows(8), tenant_id="t"))
    last: tuple[int, bool, int] = (0, False, 0)
    ended: SimpleQueue[tuple[int, bool, int]] = field(default_factory=SimpleQueue)

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        self.was_alone = len(batch) == 1
        self.queue.ran(batch)
        self.last = len(batch), alone, os.getpriority(os.PRIO_PROCESS, 0)

    def ask(self, engines: EngineThreads, requests: int) -> tuple[int, bool, int]:
        """Returns when the thread is done with the batch, and so with the queue: what comes then comes together."""
        for _ in range(requests):
            self.queue.put(Work(1, 2.0**40, lambda outputs: Reply(b"")))
        engines.announce(self)
        return self.ended.get(timeout=30)


def _ended(lane: scheduling.Lane, batch: list[Work]) -> None:
    assert isinstance(lane, Recording)
    lane.ended.put(lane.last)


@pytest.fixture
def engines() -> Iterator[EngineThreads]:
    made = EngineThreads(threads=1, finish=_ended)
    yield made
    made.stop()


def test_the_first_that_comes_again_after_a_batch_is_not_taken_for_a_lone_one(engines: EngineThreads) -> None:
    lane = Recording("t")
    assert lane.ask(engines, 1)[:2] == (1, True)
    assert lane.ask(engines, 4)[:2] == (4, False)
    assert lane.ask(engines, 1)[:2] == (1, False)
    assert lane.ask(engines, 1)[:2] == (1, True)


class Hurried(Recording):
    """One that says whether its batch was to be short, in the place of whether it was a lone one."""

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        super().run(batch, alone=short)


def test_batches_are_short_while_several_tenants_ask(engines: EngineThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    flood, seldom = Hurried("flood"), Hurried("seldom")
    flood.queue.short_rows = 2
    assert flood.ask(engines, 4)[:2] == (4, False)
    assert seldom.ask(engines, 1)[:2] == (1, True)
    assert flood.ask(engines, 4)[:2] == (2, True)
    assert flood.ended.get(timeout=30)[:2] == (2, True)
    monkeypatch.setattr(scheduling, "COMPANY_SECONDS", 0.0)
    assert seldom.ask(engines, 1)[:2] == (1, False)
    assert flood.ask(engines, 4)[:2] == (4, False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")
def test_engines_come_after_the_event_loop(engines: EngineThreads) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert Recording("t").ask(engines, 1)[2] == own + priority.ENGINES
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


class Standing(Recording):
    """One that says by which of Linux's policies its thread is scheduled, in the place of its niceness, and where."""

    where: set[int]

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        super().run(batch, alone=alone)
        self.last = (*self.last[:2], os.sched_getscheduler(0))
        self.where = os.sched_getaffinity(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has policies of each thread")
@pytest.mark.parametrize(("wanted", "policy"), [(priority.NICE, os.SCHED_OTHER), (priority.IDLE, os.SCHED_IDLE)])
def test_engines_compute_in_idle_time_only_where_that_is_wanted(settings: Settings, wanted: str, policy: int) -> None:
    settings.COMPUTE_SCHEDULING = wanted
    engines = EngineThreads(threads=1, finish=_ended)
    try:
        assert Standing("t").ask(engines, 1)[2] == policy
    finally:
        engines.stop()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processors of each thread")
def test_an_engine_that_was_given_a_processor_stays_there(settings: Settings) -> None:
    settings.COMPUTE_SCHEDULING = priority.IDLE
    last = max(allowed := os.sched_getaffinity(0))
    engines = EngineThreads(threads=1, finish=_ended, processors=[last])
    try:
        lane = Standing("t")
        lane.ask(engines, 1)
        assert lane.where == {last}
    finally:
        engines.stop()
    assert os.sched_getaffinity(0) == allowed
