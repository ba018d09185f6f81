"""Versions in memory: who leaves for whom, who stays, and that a version is loaded once however many wait for it."""

import asyncio
import os
import sys
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from inference import batching
from inference.batching import Joining
from inference.engines.base import Tensor, Tensors
from inference.engines.measuring import Candidate, Measured
from inference.plane import loading
from inference.plane.directory import VersionEntry
from inference.plane.loading import Loaded
from inference.plane.versions import Versions
from inference.queueing import HostRows
from inference.work import Reply, Work
from modelhub import priority
from modelhub.signatures import Signature
from tenants.errors import Unavailable

BUDGET = 100


class Idle:
    """A fake engine that nobody runs here."""

    name = "idle"
    outside_bytes = 0
    per_thread = True
    gone = False

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        raise AssertionError

    def close(self) -> None: ...


def entry(number: int, size: int) -> VersionEntry:
    manifest = {"serving": {"engine": "idle", "file": "f"}, "files": {"f": {"size": size}}}
    return VersionEntry(f"ver_{number}", "ten_a", "cats", number, "", manifest, "", Signature((), ()))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was loaded, in its order; a fake that takes 20 ms and as many bytes of memory as the file has."""
    found: list[str] = []

    def load(version: VersionEntry, *, threads: int) -> Loaded:
        time.sleep(0.02)
        found.append(version.id)
        if version.manifest["files"]["f"]["size"] == 13:
            raise ValueError("broken")
        seconds = {1: 0.001, 2: 0.0019}
        measured = Measured(Candidate("idle", "f"), seconds=seconds, best_rows=2, alone={1: 0.001})
        return Loaded(
            Idle(), None, None, measured, version.manifest["files"]["f"].get("held", loading.size_of(version))
        )

    monkeypatch.setattr(loading, "load", load)
    return found


def run(step: Coroutine[Any, Any, None]) -> None:
    asyncio.run(step)


def made() -> Versions:
    return Versions(queue_limit=10, host=HostRows(100), budget_bytes=BUDGET, threads=1)


def test_many_that_wait_load_once(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        found = await asyncio.gather(*(versions.load(entry(1, 10)) for _ in range(50)))
        assert len({id(one) for one in found}) == 1
        versions.close()

    run(main())
    assert loads == ["ver_1"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")
def test_loading_gives_way_to_the_event_loop(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fake = loading.load

    def load(version: VersionEntry, *, threads: int) -> Loaded:
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))
        return fake(version, threads=threads)

    monkeypatch.setattr(loading, "load", load)

    async def main() -> None:
        versions = made()
        await versions.load(entry(1, 10))
        versions.close()

    run(main())
    assert seen == [os.getpriority(os.PRIO_PROCESS, 0) + priority.ENGINES]


def test_a_short_batch_has_its_rows(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def run_batch(batch: list[Work], *, joining: Joining, **_: object) -> None:
        seen.append(joining.best_rows)

    monkeypatch.setattr(batching, "run", run_batch)

    async def main() -> None:
        versions = made()
        version = await versions.load(entry(1, 10))
        for short in (False, True):
            version.queue.put(Work(1, time.monotonic() + 60, lambda outputs: Reply(b"")))
            version.run(version.queue.take(time.monotonic(), short=short), short=short)
        versions.close()

    run(main())
    assert seen == [2, 1]


def test_what_was_used_longest_ago_leaves(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([entry(number, 60 if number == 5 else 30) for number in range(1, 6)], until_loaded={})
        for number in (1, 2, 3):
            await versions.load(entry(number, 30))
        versions.loaded("ver_1", use=True)
        await versions.load(entry(4, 30))
        assert set(versions.states()) == {"ver_1", "ver_3", "ver_4"}
        assert versions.held_bytes == 90
        versions.loaded("ver_1", use=True)
        await versions.load(entry(5, 60))
        assert set(versions.states()) == {"ver_1", "ver_5"}
        assert versions.counters.evictions == 3
        versions.close()

    run(main())


def test_what_is_in_use_stays_and_the_new_one_is_refused_for_a_while(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([entry(1, 60), entry(2, 50), entry(3, 50)], until_loaded={})
        busy = await versions.load(entry(1, 60))
        await asyncio.sleep(0.1)  # the others are not loaded beforehand: there is no room
        work = Work(1, time.monotonic() + 60, lambda outputs: Reply(b""))
        busy.queue.put(work)
        with pytest.raises(Unavailable) as refused:
            await versions.load(entry(2, 50))
        assert "needs 50 bytes" in refused.value.detail
        assert "60 are in use" in refused.value.detail
        assert refused.value.retry_after
        batch = busy.queue.take(time.monotonic())
        assert busy.queue.in_use
        busy.queue.ran(batch)
        assert not busy.queue.in_use
        with pytest.raises(Unavailable):
            await versions.load(entry(2, 50))
        await versions.load(entry(3, 50))
        assert set(versions.states()) == {"ver_3"}
        versions.close()

    run(main())
    assert loads == ["ver_1", "ver_3"]


def test_what_turns_out_too_large_is_not_loaded_for_each_request(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        large = entry(1, 10)
        large.manifest["files"]["f"]["held"] = 1000
        for _ in range(3):
            with pytest.raises(Unavailable, match="needs 1,000 bytes"):
                await versions.load(large)
        assert len(versions) == 0
        versions.close()

    run(main())
    assert loads == ["ver_1"]


def test_what_cannot_be_loaded_is_not_tried_for_each_request(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        for _ in range(3):
            with pytest.raises(Unavailable, match="could not be loaded"):
                await versions.load(entry(1, 13))
        assert versions.counters.failures == 1
        versions.close()

    run(main())


def test_what_is_deployed_is_loaded_beforehand_as_far_as_there_is_room(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([entry(number, 40) for number in (1, 2, 3)], until_loaded={})
        await asyncio.sleep(0.2)
        assert set(versions.states()) == {"ver_1", "ver_2"}
        assert versions.counters.evictions == 0
        versions.keep_only([entry(2, 40)], until_loaded={})
        assert set(versions.states()) == {"ver_2"}
        versions.close()

    run(main())


def heavy(number: int) -> VersionEntry:
    """A version that takes ten times its file's size."""
    found = entry(number, 4)
    found.manifest["files"]["f"]["held"] = 40
    return found


def test_what_is_loaded_beforehand_makes_nobody_leave_and_is_not_tried_for_each(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([heavy(number) for number in range(1, 9)], until_loaded={})
        await asyncio.sleep(0.3)
        assert set(versions.states()) == {"ver_1", "ver_2"}
        versions.preload(heavy(3))  # known by now not to fit
        await asyncio.sleep(0.1)
        assert versions.counters.evictions == 0
        assert versions.held_bytes == 80
        versions.close()

    run(main())
    assert loads == ["ver_1", "ver_2", "ver_3"]


def test_who_asks_for_what_is_loaded_beforehand_gets_it_though_others_leave(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([heavy(number) for number in range(1, 9)], until_loaded={})
        while "ver_3" not in versions.states():
            await asyncio.sleep(0.001)
        await versions.load(heavy(3))
        assert [versions.loaded(f"ver_{number}") is not None for number in (1, 2, 3)] == [False, True, True]
        versions.close()

    run(main())
    assert loads[:3] == ["ver_1", "ver_2", "ver_3"]


def test_a_version_that_others_stand_in_for_makes_room_for_itself(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([entry(number, 50) for number in (1, 2, 3)], until_loaded={})
        await versions.load(entry(1, 50))
        await versions.load(entry(2, 50))
        versions.warm(entry(3, 50))
        await asyncio.sleep(0.1)
        assert set(versions.states()) == {"ver_2", "ver_3"}
        versions.close()

    run(main())


def test_the_version_before_stays_until_the_new_one_is_loaded(loads: list[str]) -> None:
    async def main() -> None:
        versions = made()
        versions.keep_only([entry(1, 10)], until_loaded={})
        await asyncio.sleep(0.1)
        versions.keep_only([entry(2, 10)], until_loaded={"ver_2": "ver_1"})
        assert versions.loaded("ver_1") is not None
        await asyncio.sleep(0.1)
        assert set(versions.states()) == {"ver_2"}
        versions.close()

    run(main())
