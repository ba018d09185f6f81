"""SIGKILL of the server under load: what was answered is in the ledger, once."""

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.inference.conftest import PlaneSite, open_site
from tests.live import live_site

CALLERS = 8
LEDGER = """
import json
from django.db.models import Sum
from tenants import scoping
from tenants.models import QuotaBucket, UsageHour, UsageSegment
with scoping.operator():
    of = lambda meter: int(UsageHour.across_tenants.filter(meter=meter).aggregate(s=Sum("quantity"))["s"] or 0)
    buckets = QuotaBucket.across_tenants.filter(period="month")
    print(json.dumps({"requests": of("requests"), "predictions": of("predictions"),
        "events": UsageSegment.objects.aggregate(s=Sum("events"))["s"] or 0,
        "consumed": sum(b.consumed for b in buckets), "leased": sum(b.leased for b in buckets)}))
"""


@pytest.fixture
def own_plane(model_files: dict[str, Path]) -> Iterator[PlaneSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        yield open_site(site, model_files)


def test_every_acknowledged_answer_is_in_the_ledger_exactly_once(own_plane: PlaneSite) -> None:
    plane = own_plane
    acknowledged = sent = 0
    for durability in ("process", "disk", "process"):
        server = plane.site.start_server(METERING_DURABILITY=durability)
        journal = Journal(plane)
        journal.run(server.kill, after=1.5)
        server.wait(10)
        acknowledged += journal.acknowledged
        sent += journal.sent
    assert acknowledged > 100

    server = plane.site.start_server()  # adopts what the dead ones left
    deadline = time.monotonic() + 20
    while any((plane.site.var / "spool").glob("*/*.open")) or plane.site.python(LEDGER)["requests"] < acknowledged:
        assert time.monotonic() < deadline, (plane.site.python(LEDGER), acknowledged)
        time.sleep(0.2)
    found = plane.site.python(LEDGER)
    # A request that was under way at a kill may have been recorded without its answer having arrived.
    assert acknowledged <= found["requests"] <= min(sent, acknowledged + 3 * CALLERS)
    assert found["predictions"] == 2 * found["requests"] == 2 * found["events"] == found["consumed"]

    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    assert plane.site.python(LEDGER)["leased"] == 0
    assert not any((plane.site.var / "spool").iterdir())


class Journal:
    """Callers that write down each request they sent and each answer that they got."""

    def __init__(self, plane: PlaneSite) -> None:
        self.plane = plane
        self.sent = 0
        self.acknowledged = 0
        self._lock = threading.Lock()

    def run(self, kill: Callable[[], None], *, after: float) -> None:
        threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        time.sleep(after)
        kill()
        for thread in threads:
            thread.join()

    def _call(self) -> None:
        with self.plane.client() as client:
            while True:
                with self._lock:
                    self.sent += 1
                try:
                    answer = client.post("/v1/models/tiny:predict", json={"instances": [[1, 2, 3, 4]] * 2})
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                with self._lock:
                    self.acknowledged += 1
