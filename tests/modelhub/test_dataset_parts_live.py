"""Large files in parts to a real server: it is killed between them, and its memory stays what it was."""

import hashlib
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.live import LiveSite
from tests.modelhub import zips
from tests.modelhub.uploading import api, site

PICTURES, PICTURE_BYTES = 32, 5_000_000
PART_BYTES = 16 * 1024**2
# Of the 160 MB that come, lie, are checked and go out again. The server itself has about 150 MB.
MOST_GROWTH = 80_000_000

__all__ = ["api", "site"]


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """A zip file of a few hundred MB: pictures of five MB each."""
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(PICTURES):
            split, name = ("train", "validation")[number % 4 == 3], ("cat", "dog")[number % 2]
            split = "validation" if number < 2 else split
            archive.writestr(f"{split}/{name}/{number}.jpg", zips.heavy_picture(number, size=PICTURE_BYTES))
    return path


class Memory:
    """The most resident memory that the server had since it started, above what it has now."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._before = psutil.Process(pid).memory_info().rss

    def growth(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", self._status.read_text())
        assert found is not None
        return int(found[1]) * 1024 - self._before


def parts_of(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as content:
        number = 1
        while part := content.read(PART_BYTES):
            yield number, part
            number += 1


def send(api: httpx.Client, upload: str, number: int, body: bytes) -> None:
    headers = {"X-Checksum-Sha256": hashlib.sha256(body).hexdigest(), "Content-Type": "application/octet-stream"}
    answer = api.put(f"{upload}/parts/{number}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


def test_a_large_file_takes_no_more_memory_than_a_small_one(
    site: LiveSite, api: httpx.Client, large_file: Path
) -> None:
    server = site.start_server()
    body = {"name": "large", "kind": "image-classification"}
    dataset = api.post("/datasets", json=body).json()["id"]
    wanted = {"length": large_file.stat().st_size, "media_type": "application/zip"}
    upload = f"/datasets/{dataset}/uploads/{api.post(f'/datasets/{dataset}/uploads', json=wanted).json()['id']}"
    parts = parts_of(large_file)
    send(api, upload, *next(parts))
    send(api, upload, *next(parts))

    server.send_signal(signal.SIGKILL)
    server.wait()
    server = site.start_server()
    assert [part["number"] for part in api.get(upload).json()["parts"]] == [1, 2]
    memory = Memory(server.pid)
    for number, part in parts:
        send(api, upload, number, part)
    done: Any = api.post(f"{upload}/complete")
    assert done.status_code == 200, done.text
    assert done.json()["items"] == PICTURES
    assert memory.growth() < MOST_GROWTH
    assert not [path for path in (site.var / "scratch").rglob("*") if path.is_file() and "metrics" not in path.parts]

    copy = large_file.with_name("copy.zip")
    with api.stream("GET", f"/datasets/{dataset}/export") as answer, copy.open("wb") as content:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            content.write(piece)
    with zipfile.ZipFile(copy) as exported, zipfile.ZipFile(large_file) as sent:
        assert {i.filename: i.CRC for i in exported.infolist()} == {i.filename: i.CRC for i in sent.infolist()}
    assert copy.stat().st_size > PICTURES * PICTURE_BYTES
    assert memory.growth() < MOST_GROWTH
