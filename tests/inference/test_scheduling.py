"""Turns: compute time is shared over tenants, whatever their batches cost and however many they bring.

And the threads that take them.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from inference import company, scheduling
from inference.company import Company, Rank
from inference.neighbours import READ_EVERY_SECONDS, Neighbours, shared_bytes
from inference.queueing import HostRows, Queue
from inference.scheduling import EngineThreads, Turns
from inference.work import Reply, Work
from modelhub import priority

REQUESTS = 200


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
        lane = turns.next(turns.waiting)
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
    assert turns.next(turns.waiting) is seldom


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
    assert turns.next(turns.waiting) is busy
    turns.charge("busy", 10.0)
    assert turns.next(turns.waiting) is None
    turns.add(busy)
    turns.add(Lane("other", 1.0))
    assert {lane.tenant_id for lane in served(turns, 2)} == {"busy", "other"}


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
    monkeypatch.setattr(company, "COMPANY_SECONDS", 0.0)
    assert seldom.ask(engines, 1)[:2] == (1, False)
    assert flood.ask(engines, 4)[:2] == (4, False)


def test_who_is_served_by_the_event_loop_is_company_for_the_others(engines: EngineThreads) -> None:
    flood = Hurried("flood")
    flood.queue.short_rows = 2
    assert flood.ask(engines, 4)[:2] == (4, False)
    engines.passed_by("flood", time.monotonic())
    assert flood.ask(engines, 4)[:2] == (4, False)
    engines.passed_by("seldom", time.monotonic())
    assert flood.ask(engines, 4)[:2] == (2, True)
    assert flood.ended.get(timeout=30)[:2] == (2, True)


class Standing(Recording):
    """One that says how its thread computes: by which of Linux's policies, how nice, and on which processors."""

    standing: tuple[int, int, set[int]]

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        super().run(batch, alone=alone)
        self.standing = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)


@pytest.mark.skipif(not priority.IDLE_TIME, reason="only Linux has idle time")
@pytest.mark.parametrize("rank", Rank)
def test_threads_compute_by_their_rank(rank: Rank, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.INFERENCE_PROCESSES, settings.INFERENCE_PROCESS = len(allowed := os.sched_getaffinity(0)), 0
    monkeypatch.setattr(Company, "rank", lambda company, tenant_id, now: rank)
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    expected = {
        Rank.FIRST: (os.SCHED_OTHER, niceness, allowed),
        Rank.COMMON: (os.SCHED_OTHER, niceness + priority.ENGINES, allowed),
        Rank.LAST: (os.SCHED_IDLE, niceness + priority.ENGINES, {min(allowed)}),
    }
    engines = EngineThreads(threads=1, finish=_ended)
    try:
        (lane := Standing("t")).ask(engines, 1)
    finally:
        engines.stop()
    assert lane.standing == expected[rank]
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == (os.SCHED_OTHER, niceness)


class Holding(Recording):
    """One whose batches run until they may end."""

    begun: threading.Event
    end: threading.Event

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        self.begun.set()
        assert self.end.wait(30)
        super().run(batch, alone=alone)

    def begin(self, engines: EngineThreads) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self.queue.put(Work(1, 2.0**40, lambda outputs: Reply(b"")))
        engines.announce(self)


@pytest.mark.skipif(not priority.IDLE_TIME, reason="only Linux has idle time")
def test_who_is_first_begins_beside_who_is_last_but_not_the_other_way_round(
    engines: EngineThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Company, "rank", lambda company, tenant_id, now: Rank[tenant_id])
    last, first, again = Holding("LAST"), Holding("FIRST"), Holding("LAST")
    last.begin(engines)
    assert last.begun.wait(30)
    first.begin(engines)
    assert first.begun.wait(30)
    last.end.set()
    last.ended.get(timeout=30)
    again.begin(engines)
    assert not again.begun.wait(0.1)
    first.end.set()
    assert again.begun.wait(30)
    again.end.set()
    again.ended.get(timeout=30)


class Counting(Recording):
    """One that says how many of its batches run at the same time at most."""

    running = most = 0

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        with self.queue.host.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(1e-3)
        with self.queue.host.lock:
            self.running -= 1
        super().run(batch, alone=alone)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lane_runs_no_more_batches_at_a_time_than_there_are_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its rank is meanwhile: for each of them an engine may be in memory once, and stays there."""
    drawn = random.Random(0)
    monkeypatch.setattr(Company, "rank", lambda company, tenant_id, now: drawn.choice(list(Rank)))
    engines = EngineThreads(threads=threads, finish=_ended)
    host = HostRows(2 * REQUESTS)
    lane = Counting("t", queue=Queue(best_rows=1, limit=REQUESTS, host=host, tenant_id="t"))
    try:
        for _ in range(REQUESTS):
            lane.queue.put(Work(1, 2.0**40, lambda outputs: Reply(b"")))
            engines.announce(lane)
        for _ in range(REQUESTS):
            lane.ended.get(timeout=30)
    finally:
        engines.stop()
    assert lane.most == threads


@pytest.mark.parametrize("seed", range(4))
def test_all_is_done_however_ranks_change(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank may be another one from one look to the next; no thread may sleep over work that nobody else takes."""
    drawn = random.Random(seed)
    monkeypatch.setattr(Company, "rank", lambda company, tenant_id, now: drawn.choice(list(Rank)))
    engines = EngineThreads(threads=2, finish=_ended)
    lanes = [Recording(f"tenant-{number}") for number in range(5)]
    for _ in range(100):
        for lane in lanes:
            lane.queue.put(Work(1, 2.0**40, lambda outputs: Reply(b"")))
            engines.announce(lane)
        for lane in lanes:
            lane.ended.get(timeout=30)
    for lane in lanes:
        lane.queue.put(Work(1, 2.0**40, lambda outputs: Reply(b"")))
        engines.announce(lane)
    engines.stop()
    assert engines.idle
    for lane in lanes:
        lane.ended.get(timeout=0)


def test_whom_another_process_serves_is_seen_before_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not first while it runs: it may be a long one, on the processor of those that are last there."""
    shared = tmp_path / "shared"
    shared.write_bytes(bytes(shared_bytes(2)))
    own, other = (Neighbours(os.open(shared, os.O_RDWR), process=number, processes=2) for number in (0, 1))
    several: list[bool] = []

    def rank(company: Company, tenant_id: str, now: float) -> Rank:
        several.append(company.several)
        return Rank.COMMON

    monkeypatch.setattr(Company, "rank", rank)
    engines = EngineThreads(threads=1, finish=_ended, neighbours=own)
    try:
        lane = Recording("flood")
        lane.ask(engines, 1)
        assert not any(several)
        time.sleep(2 * READ_EVERY_SECONDS)
        other.served("quiet", time.monotonic())
        lane.ask(engines, 1)
        assert several[-1]
    finally:
        engines.stop()


@pytest.mark.skipif(not priority.IDLE_TIME, reason="only Linux has idle time")
def test_nobody_is_last_after_a_thread_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    starves = [False, True]
    monkeypatch.setattr(company.Hunger, "starves", lambda hunger: starves.pop())
    monkeypatch.setattr(Company, "rank", lambda company, tenant_id, now: Rank.LAST)
    paused: SimpleQueue[float] = SimpleQueue()
    monkeypatch.setattr(Company, "pause", lambda company, now: paused.put(now))
    engines = EngineThreads(threads=1, finish=_ended)
    try:
        lane = Recording("t")
        before = time.monotonic()
        lane.ask(engines, 1)
        assert before <= paused.get(timeout=30) <= time.monotonic()
        lane.ask(engines, 1)
        assert paused.empty()
    finally:
        engines.stop()


def test_what_waits_is_dealt_out_among_the_threads_that_are_free() -> None:
    taken: SimpleQueue[int] = SimpleQueue()
    go = threading.Event()

    class Waiting(Recording):
        def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
            taken.put(len(batch))
            go.wait(30)
            super().run(batch, alone=alone)

    engines = EngineThreads(threads=2, finish=_ended)
    lane = Waiting("t", queue=_roomy())
    for _ in range(8):
        lane.queue.put(Work(1, 2.0**40, lambda outputs: Reply(b"")))
    try:
        engines.announce(lane)
        assert sorted(taken.get(timeout=30) for _ in range(2)) == [4, 4]
    finally:
        go.set()
        engines.stop()


def test_a_thread_takes_all_that_waits_where_no_other_is_free() -> None:
    engines, lane = EngineThreads(threads=1, finish=_ended), Recording("t", queue=_roomy())
    try:
        assert lane.ask(engines, 8)[0] == 8
    finally:
        engines.stop()


def _roomy() -> Queue:
    return Queue(best_rows=8, limit=8, host=HostRows(100), tenant_id="t")
