"""The spool: whole frames or none, and what a dead process left is shipped."""

import asyncio
import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.plane import spool
from inference.plane.spool import Clock, Idle, Segment, Spool, SpoolFailed, frame
from tenants.ledger import usage


@pytest.fixture
def closed() -> list[Segment]:
    return []


def make(root: Path, closed: list[Segment], *, durable: bool = False) -> Spool:
    return Spool(root, durable=durable, in_flight_seconds=30, closed=closed.append)


def payload(number: int) -> bytes:
    return f'["{number}",1700000000000,"ten_a","key_a","cats","cats@1",{{"requests":1}}]'.encode()


def test_frames_are_what_the_ledger_reads(tmp_path: Path, closed: list[Segment]) -> None:
    spooled = make(tmp_path, closed)
    for number in range(3):
        spooled.append(frame(payload(number)))
    spooled.rotate()
    data = closed[0].path.read_bytes()
    events, good = usage.decode(data)
    assert [event.id for event in events] == ["0", "1", "2"]
    assert good == len(data)


def test_a_segment_without_events_is_not_shipped(tmp_path: Path, closed: list[Segment]) -> None:
    spooled = make(tmp_path, closed)
    spooled.rotate()
    assert closed == []


def test_segments_have_ids_that_never_return(tmp_path: Path, closed: list[Segment]) -> None:
    for _ in range(2):
        spooled = make(tmp_path, closed)
        for number in range(2):
            spooled.append(frame(payload(number)))
            spooled.rotate()
    assert len({segment.id for segment in closed}) == 4


def test_a_full_disk_refuses_and_leaves_no_torn_frame(
    tmp_path: Path, closed: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = make(tmp_path, closed)
    spooled.append(frame(payload(1)))
    write = os.write

    def half_then_full(file: int, data: bytes) -> int:
        write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half_then_full)
        with pytest.raises(SpoolFailed):
            spooled.append(frame(payload(2)))
    spooled.append(frame(payload(3)))
    spooled.rotate()
    events, good = usage.decode(closed[0].path.read_bytes())
    assert [event.id for event in events] == ["1", "3"]
    assert good == closed[0].path.stat().st_size


def test_after_a_failed_sync_nothing_more_is_acknowledged(
    tmp_path: Path, closed: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = make(tmp_path, closed, durable=True)
    spooled.append(frame(payload(1)))

    def fails(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SpoolFailed):
        asyncio.run(spooled.synced())
    with pytest.raises(SpoolFailed):
        spooled.append(frame(payload(2)))


def test_a_sync_that_failed_at_the_end_of_a_segment_is_not_tried_again(
    tmp_path: Path, closed: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = make(tmp_path, closed, durable=True)
    spooled.append(frame(payload(1)))

    def fails(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        spooled.rotate_if_possible()
    spooled.rotate_if_possible()
    assert closed == []
    with pytest.raises(SpoolFailed):
        spooled.append(frame(payload(2)))


def test_a_living_producer_is_not_adopted(tmp_path: Path, closed: list[Segment]) -> None:
    spooled = make(tmp_path, closed)
    assert spool.adopt(spooled.folder) is None


def test_a_released_producer_leaves_nothing(tmp_path: Path, closed: list[Segment]) -> None:
    spooled = make(tmp_path, closed)
    spooled.rotate()
    spooled.release()
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_shipped_stays_to_be_adopted(tmp_path: Path, closed: list[Segment]) -> None:
    spooled = make(tmp_path, closed)
    spooled.append(frame(payload(1)))
    spooled.rotate()
    spooled.release()
    lock = spool.adopt(spooled.folder)
    assert lock is not None
    os.close(lock)
    assert [path.suffix for path in spool.segments_of(spooled.folder)] == [".closed"]


def test_folders_of_processes_that_died_while_they_made_or_gave_them_up_are_removed(
    tmp_path: Path, closed: list[Segment]
) -> None:
    living = make(tmp_path, closed)
    for name in (".plane-locked", ".plane-bare", "plane-given-up", "plane-rejected"):
        (tmp_path / name).mkdir()
    (tmp_path / ".plane-locked" / spool.LOCK).touch()
    (tmp_path / "plane-rejected" / "1.rejected").touch()
    making = tmp_path / ".plane-making"
    making.mkdir()
    lock = os.open(making / spool.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    spool.remove_empty(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living.producer, "plane-rejected", making.name}
    os.close(lock)
    spool.remove_empty(tmp_path)
    assert not making.exists()


def test_a_folder_is_made_however_often_others_sweep(tmp_path: Path, closed: list[Segment]) -> None:
    over = threading.Event()

    def sweep() -> None:
        while not over.is_set():
            spool.remove_empty(tmp_path)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        made = [make(tmp_path, closed) for _ in range(300)]
    finally:
        over.set()
        for sweeper in sweepers:
            sweeper.join()
    assert {path.name for path in tmp_path.iterdir()} == {one.producer for one in made}
    assert all(spool.adopt(one.folder) is None for one in made), "each is locked by its maker"
    for one in made:
        one.release()


def test_an_idle_spool_says_so_and_one_with_records_closes_them(tmp_path: Path, closed: list[Segment]) -> None:
    idle: list[Idle] = []
    spooled = Spool(tmp_path, durable=False, in_flight_seconds=30, closed=closed.append, idle=idle.append)
    before = time.time()
    spooled.tick()
    assert before - 1 <= idle[0].complete_before <= time.time()  # nothing came in before the spool was there
    spooled.append(frame(payload(1)))
    spooled.tick()
    assert (len(idle), len(closed)) == (1, 1)
    spooled.tick()
    assert (len(idle), len(closed)) == (2, 1)


def test_a_spool_that_lost_records_never_says_that_it_is_idle(
    tmp_path: Path, closed: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle: list[Idle] = []
    spooled = Spool(tmp_path, durable=True, in_flight_seconds=30, closed=closed.append, idle=idle.append)
    spooled.append(frame(payload(1)))

    def fails(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    spooled.tick()
    spooled.tick()
    assert spooled.failed
    assert (idle, closed) == ([], [])


@given(
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from([0.0, 0.0, 0.0, 3600.0, -3600.0, -1.0])), max_size=40),
    st.data(),
)
def test_no_request_under_way_came_in_before_what_the_clock_says(
    steps: list[tuple[float, float]], data: st.DataObject
) -> None:
    """Seconds pass and the wall clock is set, by an hour or a second; requests come in before and after."""
    faked = FakedTime()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spool.time, "monotonic", lambda: faked.monotonic)  # type: ignore[attr-defined]
        patched.setattr(spool.clock, "now", lambda: faked.wall)  # type: ignore[attr-defined]
        clock = Clock(30.0)
        admitted = []
        for seconds, set_by in steps:
            first = data.draw(st.floats(0, seconds))
            faked.pass_(first)
            admitted.append((faked.monotonic, faked.wall))
            faked.wall += set_by
            admitted.append((faked.monotonic, faked.wall))
            faked.pass_(seconds - first)
            clock.read()
        earliest = clock.earliest()
        under_way = [wall for at, wall in admitted if at > faked.monotonic - 30.0]
    assert all(earliest <= wall + 1e-3 for wall in under_way)
    if not any(set_by for _, set_by in steps):
        assert earliest >= faked.wall - 30.0 - max((seconds for seconds, _ in steps), default=0) - 1e-3


class FakedTime:
    """Two clocks, of which one can be set."""

    monotonic, wall = 5.0, 1_790_000_000.0

    def pass_(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds
