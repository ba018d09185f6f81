"""The disk fails under the spool: what cannot be recorded is not given away, and what was given away is recorded."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.crash import oracle
from tests.crash.conftest import CrashSite, stop
from tests.foreground import until


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of a megabyte; where none may be mounted, nothing can be said of a full one."""
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_refuses_until_there_is_room_again(at: CrashSite, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    server = at.site.start_server(SPOOL_DIR=str(small_disk))
    with at.journal().running() as journal:
        journal.wait_for(50)
        ballast.write_bytes(b"\0" * (small_disk_free(small_disk) - 20_000))
        with ballast.open("ab", buffering=0) as file:  # to the last byte, while records are written
            until(lambda: journal.statuses[503] or not fill(file.fileno()))
        until(lambda: journal.statuses[503] > 20)
        ballast.unlink()
        journal.wait_for(50)
    stop(server)
    assert set(journal.statuses) == {200, 503}
    ledger = oracle.check(at.site, journal.acknowledged)
    assert len(ledger.events) >= len(journal.acknowledged)
    assert [path.name for path in small_disk.iterdir()] == []


def small_disk_free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(file: int) -> bool:
    """Whether there was room for more."""
    try:
        return bool(os.write(file, b"\0" * 4096))
    except OSError:
        return False


def test_a_sync_that_fails_ends_the_acknowledging_and_loses_nothing_of_before(at: CrashSite) -> None:
    failing = at.site.var / "failing"
    server = at.site.start_server(
        module="tests.crash.faulty_server", METERING_DURABILITY="disk", FAULTY_FSYNC=str(failing)
    )
    with at.journal().running() as journal:
        journal.wait_for(50)
        failing.touch()
        until(lambda: journal.statuses[503] > 20)
        before = len(journal.acknowledged)
        failing.unlink()  # a later sync may succeed though the data is lost: it is not trusted
        until(lambda: journal.statuses[503] > 100)
        assert len(journal.acknowledged) == before
        assert httpx.get(f"{at.site.url}/healthz").status_code == 503
    server.kill()
    server.wait()
    at.drain()
    oracle.check(at.site, journal.acknowledged)
