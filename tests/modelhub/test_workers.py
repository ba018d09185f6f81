"""Workers: until they are told to stop, whatever becomes of the database, and what killed ones leave behind."""

import os
import time
from pathlib import Path

import pytest
from django.db import OperationalError

from modelhub import workers
from modelhub.workers import Stopping, Worker


class Counter(Worker):
    """A worker whose jobs are turns: some fail to reach the database, and the last one stops it."""

    kind = "counter"

    def __init__(self, scratch: Path) -> None:
        super().__init__()
        self.turns = 0
        self._scratch = scratch

    def scratch(self) -> Path:
        return self._scratch

    def run_one(self) -> bool:
        self.turns += 1
        if self.turns == 2:
            raise OperationalError("the server went away")
        if self.turns == 4:
            self.stop()
        return self.turns % 2 == 1


def folder(place: Path, *, hours: float) -> Path:
    """One that nobody has written to for so long."""
    place.mkdir()
    (place / "model").write_bytes(b"weights")
    written = time.time() - hours * 3600
    os.utime(place, (written, written))
    return place


def test_it_goes_on_after_an_outage_until_it_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_CLAIMS", 0.01)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    left = folder(tmp_path / "eva_1-aa", hours=25)
    counter = Counter(tmp_path)
    counter.tick()
    counter.run_forever()
    assert counter.turns == 4
    assert not left.exists()
    with pytest.raises(Stopping):
        counter.tick()


def test_folders_of_every_kind_of_job_are_removed_a_day_after_the_last_was_written(tmp_path: Path) -> None:
    old = [folder(tmp_path / name, hours=25) for name in ("job_1-aa", "eva_1-bb", "bat_1-cc")]
    kept = [folder(tmp_path / "job_1-dd", hours=23), folder(tmp_path / "shared", hours=25)]
    workers.remove_left_behind(tmp_path)
    assert not any(one.exists() for one in old)
    assert all(one.exists() for one in kept)
    workers.remove_left_behind(tmp_path / "missing")


def test_an_outage_is_waited_out_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_CLAIMS", 0.01)
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("the server went away")

    workers.written(write)
    assert len(tries) == 3
    monkeypatch.setattr(workers, "SECONDS_TO_RETRY", 0.0)
    tries.clear()
    with pytest.raises(OperationalError):
        workers.written(write)
