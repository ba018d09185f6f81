"""Segments that are torn, replayed, or shipped by several processes at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from inference.plane import shipping
from inference.plane.spool import Spool, frame
from tenants.models import UsageSegment
from tests.conftest import Account
from tests.crash import oracle
from tests.crash.conftest import ROUNDS, CrashSite
from tests.inference.test_shipping import event, requests
from tests.live import ROOT

ADOPT = """
import sys
from pathlib import Path
import django
django.setup()
from inference.plane import shipping
print("ready", flush=True)
sys.stdin.readline()
print(shipping.adopt_dead(Path(sys.argv[1])))
"""


def dead_spool(root: Path, frames: bytes) -> Path:
    spool = Spool(root, durable=False, in_flight_seconds=30, closed=lambda _: None)
    spool.append(frames)
    spool.release()
    return next(spool.folder.glob("*.open"))


@pytest.mark.django_db
def test_a_segment_that_is_torn_at_any_byte_of_its_tail_gives_its_whole_frames(acme: Account, tmp_path: Path) -> None:
    first, second = event(acme, 1), event(acme, 2)
    for cut in range(len(first) - 1, len(first) + len(second) + 1):
        path = dead_spool(tmp_path, first + second)
        with path.open("r+b") as file:
            file.truncate(cut)
        before = requests()
        assert shipping.adopt_dead(tmp_path) == 1
        whole = (cut >= len(first)) + (cut >= len(first) + len(second))
        assert requests() - before == whole, cut
        assert UsageSegment.objects.get(pk=path.stem).events == whole
        assert not any(tmp_path.iterdir())


@pytest.mark.django_db
def test_a_segment_whose_tail_is_zeros_or_garbage_gives_its_whole_frames(acme: Account, tmp_path: Path) -> None:
    """As a machine may leave it that died while it wrote."""
    for tail in (b"\0" * 4096, b"\xff" * 100, frame(b"x" * 50)[:-1], event(acme, 9)[:8]):
        path = dead_spool(tmp_path, event(acme, 1))
        with path.open("ab") as file:
            file.write(tail)
        before = requests()
        shipping.adopt_dead(tmp_path)
        assert requests() - before == 1


def test_two_processes_that_ship_the_same_segments_at_once_add_them_once(at: CrashSite, tmp_path: Path) -> None:
    server = at.site.start_server()
    with at.journal().running() as journal:
        journal.wait_for(200)
        server.kill()
        server.wait()
    tenant = at.site.python(
        "import json\nfrom tenants.models import Tenant\nfrom tenants import scoping\n"
        "with scoping.operator():\n    print(json.dumps(Tenant.objects.get().pk))"
    )
    meters = {"requests": 1, "predictions": 2, "compute_us": 7}
    own = Spool(at.site.var / "spool", durable=False, in_flight_seconds=30, closed=lambda _: None)
    for number in range(10 * ROUNDS):
        own.append(frame(orjson.dumps([f"more-{number}", 1_790_000_000_000, tenant, "k", "d", "v", meters])))
        own.rotate()
    own.release()
    copies = [tmp_path / f"copy-{number}" for number in range(3)]
    for copy in copies:
        shutil.copytree(at.site.var / "spool", copy)
    adopters = [
        subprocess.Popen(
            [sys.executable, "-c", ADOPT, str(copy)], cwd=ROOT, env=at.site.env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for copy in (*copies, at.site.var / "spool")
    ]  # fmt: skip
    for adopter in adopters:
        assert adopter.stdout is not None
        assert adopter.stdout.readline() == "ready\n"
    for adopter in adopters:
        assert adopter.communicate("go\n", timeout=120)[0].split() == ["2"]
        assert adopter.returncode == 0
    for copy in copies:
        assert not any(copy.iterdir())
    ledger = oracle.check(at.site, journal.acknowledged)
    assert sum(one.startswith("more-") for one in ledger.ids) == 10 * ROUNDS


def test_segments_of_a_backup_that_are_brought_again_change_nothing(at: CrashSite, tmp_path: Path) -> None:
    server = at.site.start_server()
    with at.journal().running() as journal:
        journal.wait_for(100)
        server.kill()
        server.wait()
    backup = tmp_path / "backup"
    shutil.copytree(at.site.var / "spool", backup)
    at.drain()
    before = oracle.check(at.site, journal.acknowledged)
    shutil.copytree(backup, at.site.var / "spool", dirs_exist_ok=True)
    at.drain()
    assert oracle.check(at.site, journal.acknowledged) == before
