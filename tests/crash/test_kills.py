"""SIGKILL of plane, trainer and web at random moments under load: what was acknowledged is there, once."""

import contextlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import httpx

from tests.crash import oracle
from tests.crash.conftest import ROUNDS, CrashSite, stop
from tests.live import free_port

KEYS = """
import json
from tenants import scoping
from tenants.models import ApiKey, AuditEvent
with scoping.operator():
    print(json.dumps([
        list(ApiKey.across_tenants.values_list("name", flat=True)),
        list(AuditEvent.across_tenants.filter(verb="api_key.create").values_list("subject", flat=True)),
        list(ApiKey.across_tenants.values_list("id", flat=True)),
    ]))
"""
ACCRUED = """
import json
from datetime import timedelta
from django.utils import timezone
from modelhub import storage
from modelhub.models import Blob, StorageAccrual
from tenants import scoping
storage.accrue(now=timezone.now())
with scoping.operator():
    until = StorageAccrual.objects.get().until
    held = [blob.size * ((until - blob.stored_at) // timedelta(microseconds=1)) for blob in Blob.across_tenants.all()]
    print(json.dumps(sum(held)))
"""


class Processes:
    """Two servers of predictions, one of everything else, and a trainer, which tells the ledger of stored bytes."""

    def __init__(self, at: CrashSite) -> None:
        self.site = at.site
        self.planes = (free_port(), free_port())
        self.running = {name: self._start(name) for name in ("plane 0", "plane 1", "web", "trainer")}

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()
        self.running[name] = self._start(name)

    def stop(self) -> None:
        trainer = self.running.pop("trainer")
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait(60) in (0, -signal.SIGTERM)  # the latter while it starts
        for process in self.running.values():
            stop(process)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        if name == "trainer":
            return self.site.start_trainer(STORAGE_ACCRUAL_SECONDS="0.05")
        if name == "web":
            return self.site.start_server(role="web")
        durability = "disk" if name == "plane 1" else "process"
        port = self.planes[int(name[-1])]
        return self.site.start_server(port=port, role="plane", METERING_DURABILITY=durability)


class Keymaker:
    """Makes API keys through the web, and repeats what was not acknowledged under the same Idempotency-Key."""

    def __init__(self, at: CrashSite) -> None:
        self.made: list[str] = []
        self._url = f"{at.site.url}/api/v1/api-keys"
        self._headers = {"Authorization": f"Bearer {at.key}"}
        self._stopping = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        yield
        self._stopping.set()
        thread.join(60)

    def _run(self) -> None:
        while not self._stopping.is_set():
            name = f"made-{len(self.made)}"
            while True:
                with contextlib.suppress(httpx.TransportError):
                    headers = self._headers | {"Idempotency-Key": name}
                    body = {"name": name, "scopes": ["read"]}
                    answer = httpx.post(self._url, json=body, headers=headers, timeout=30)
                    assert answer.status_code in (201, 409, 503), answer.text
                    if answer.status_code == 201:
                        break
                time.sleep(0.05)
            self.made.append(name)


def test_whoever_is_killed_what_was_acknowledged_is_there_once(at: CrashSite, dice: random.Random) -> None:
    processes, keymaker = Processes(at), Keymaker(at)
    journal = at.journal(*processes.planes)
    with journal.running(), keymaker.running():
        journal.wait_for(50)
        names = [*processes.running][:ROUNDS]
        names += dice.choices([*processes.running], k=max(0, ROUNDS - len(names)))
        dice.shuffle(names)
        for name in names:
            time.sleep(dice.uniform(0, 1.2))
            processes.kill(name)
        journal.wait_for(50)
    processes.stop()
    at.drain()

    ledger = oracle.check(at.site, journal.acknowledged)
    assert set(journal.statuses) <= {200, 503}, journal.statuses
    oracle.check_quota(at.site, ledger)
    assert not any((at.site.var / "spool").iterdir())
    _check_keys(at, keymaker.made)
    _check_storage(at)


def _check_keys(at: CrashSite, made: list[str]) -> None:
    names, audited, ids = at.site.python(KEYS)
    assert len(names) == len(set(names))
    assert set(made) <= set(names)
    assert sorted(audited) == sorted(ids)
    assert made


def _check_storage(at: CrashSite) -> None:
    """However often the trainer died, the byte-hours are those of the bytes and the time."""
    held = at.site.python(ACCRUED)
    meters = [event[6] for event in oracle.check(at.site, []).events]
    told = [Fraction(meter["stored_byte_hours"]) for meter in meters if "stored_byte_hours" in meter]
    assert len(told) > 5
    assert abs(sum(told) - Fraction(held, 3600 * 10**6)) <= len(told) * Fraction(5, 10**13)
