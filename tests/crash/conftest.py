"""Sites that crash: how often is said by ROUNDS, a few times without it, 50 times by `make test-crash`."""

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import models
from tests.crash import oracle
from tests.crash.database import OwnDatabase, own_database
from tests.crash.journal import Journal
from tests.live import LiveSite, live_site
from tests.publishing import TINY, make_key, publish

ROUNDS = int(os.environ.get("ROUNDS", "4"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 10**6)))


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return models.made(tmp_path_factory.mktemp("models"), "tiny.tflite")


@pytest.fixture
def dice() -> random.Random:
    """Chance, which can be had again: SEED=… of a failed test."""
    print(f"SEED={SEED}")
    return random.Random(SEED)


@dataclass
class CrashSite:
    """A site whose tenant acme has the deployment `tiny`."""

    site: LiveSite
    key: str

    def journal(self, *ports: int, callers: int = 8) -> Journal:
        return Journal(ports or (self.site.port,), self.key, callers=callers)

    def drain(self, *, seconds: float = 90) -> None:
        """A server ships what is left, and ends."""
        server = self.site.start_server(METERING_DURABILITY="process")
        deadline = time.monotonic() + seconds
        while found := oracle.spooled(self.site):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        stop(server)


def crash_site(site: LiveSite, files: dict[str, Path]) -> CrashSite:
    site.manage("create_tenant", "acme")
    site.python(
        "from tenants.models import Plan\n"
        "Plan.objects.filter(code='standard').update(predictions_per_minute=10**9, predictions_per_month=10**11)\n"
        "print(1)"
    )
    publish(site, tenant="acme", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    return CrashSite(site, make_key(site, "acme"))


@pytest.fixture(scope="session")
def shared(model_files: dict[str, Path]) -> Iterator[CrashSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        yield crash_site(site, model_files)


@pytest.fixture
def at(shared: CrashSite) -> Iterator[CrashSite]:
    """One site for most tests: what each adds to the ledger must hold beside all of before."""
    yield shared
    for process in shared.site.processes:
        process.kill()
        process.wait()
    shared.site.processes.clear()


@pytest.fixture
def database() -> Iterator[OwnDatabase]:
    with own_database() as found:
        yield found


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
