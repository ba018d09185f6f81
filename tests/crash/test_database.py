"""The database dies, or its answer to a commit gets lost: nothing is lost, and nothing is counted twice."""

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import oracle
from tests.crash.conftest import ROUNDS, CrashSite, crash_site, stop
from tests.crash.database import Cutter, OwnDatabase
from tests.live import live_site


@pytest.fixture
def own(database: OwnDatabase, model_files: dict[str, Path]) -> Iterator[CrashSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), server=database.server) as site:
        yield crash_site(site, model_files)


def test_postgres_that_stops_without_a_word_and_comes_back_loses_nothing(
    own: CrashSite, database: OwnDatabase, dice: random.Random
) -> None:
    server = own.site.start_server()
    with own.journal().running() as journal:
        for _ in range(max(1, ROUNDS // 5)):
            journal.wait_for(100)
            time.sleep(dice.uniform(0, 1.5))
            database.stop_immediately()
            time.sleep(dice.uniform(0, 2.0))
            database.start()
        journal.wait_for(100)
    assert server.poll() is None
    stop(server)
    own.drain()
    ledger = oracle.check(own.site, journal.acknowledged)
    assert set(journal.statuses) <= {200, 503}, journal.statuses
    oracle.check_quota(own.site, ledger)


def test_a_commit_whose_answer_is_lost_counts_once(database: OwnDatabase, model_files: dict[str, Path]) -> None:
    """The shipper cannot know whether its segment was taken, so it brings it again."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    cutter = Cutter(folder, database.socket_dir, cut=lambda count: count % 2 == 1)
    with (
        tempfile.TemporaryDirectory() as var,
        live_site(Path(var), server=database.server, socket_dir=str(folder)) as site,
    ):
        at = crash_site(site, model_files)
        server = site.start_server()
        with at.journal().running() as journal:
            while cutter.cuts < max(2, ROUNDS // 5):
                journal.wait_for(20)
                time.sleep(0.2)
        stop(server)
        at.drain()
        ledger = oracle.check(site, journal.acknowledged)
        assert len(ledger.segments) >= cutter.cuts
        oracle.check_quota(site, ledger)
    cutter.close()
