"""The spool: whole frames or none, and what a dead process left is shipped."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from inference.plane import spool
from inference.plane.spool import Segment, Spool, SpoolFailed, frame
from tenants import usage


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
