"""The file of a process's counts: whole at any moment, whoever writes it at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inference.plane.metrics import Snapshot


def test_threads_that_write_at_once_leave_it_whole(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, producer="plane-1")
    reading = {"rows": 1, "padding": "x" * 20_000}

    def write_often(number: int) -> int:
        for _ in range(200):
            snapshot.write(reading | {"rows": number})
            assert json.loads((tmp_path / "plane-1.json").read_text())["padding"] == reading["padding"]
        return number

    snapshot.write(reading)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(write_often, range(4))) == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["plane-1.json"]


def test_the_last_of_several_in_turn_is_there(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, producer="plane-1")
    for rows in (1, 2, 3):
        snapshot.write({"rows": rows})
    assert json.loads((tmp_path / "plane-1.json").read_text()) == {"rows": 3}
    snapshot.remove()
    assert not list(tmp_path.iterdir())
