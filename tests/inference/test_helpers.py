"""A lone request on several threads: those that help are on other processors than the one that is helped."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference import helpers, measurements
from inference.engines import catalog
from inference.engines.base import Tensor, Tensors
from inference.engines.measuring import Candidate, Measured
from inference.plane import loading
from inference.plane.directory import VersionEntry
from inference.plane.versions import LoadedVersion
from inference.queueing import HostRows, Queue
from inference.work import Reply, Work
from modelhub.signatures import Signature, TensorSpec

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processors of each thread"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor"),
]
ROWS = TensorSpec("x", "float32", (-1, 4))
SIGNATURE = Signature((ROWS,), (ROWS,))
MEASURED = Measured(Candidate("helped", "f"), {1: 0.005}, best_rows=1, alone={1: 0.005, 2: 0.003}, alone_threads=2)


class Helped:
    """A fake engine with a real thread for each that it was told to have besides the one that calls."""

    name = "helped"
    outside_bytes = 0
    per_thread = True
    gone = False

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        self.closed = threading.Event()
        self.threads = [threading.Thread(target=self.closed.wait, daemon=True) for _ in range(threads - 1)]
        for thread in self.threads:
            thread.start()

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        return {"x": inputs["x"]}

    def close(self) -> None:
        self.closed.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoadedVersion]:
    """One that is served by the fake."""
    file = tmp_path / "f"
    file.write_bytes(b"f")
    monkeypatch.setitem(catalog.ENGINES, "helped", Helped)
    monkeypatch.setattr(measurements, "measured", lambda **_: MEASURED)
    monkeypatch.setattr(loading, "_path", lambda entry, name: file)
    manifest = {"serving": {"engine": "helped", "file": "f"}, "signature": SIGNATURE.as_json()}
    entry = VersionEntry("ver_1", "ten_a", "cats", 1, "", manifest, "", SIGNATURE)
    queue = Queue(best_rows=1, limit=10, host=HostRows(100), tenant_id="ten_a")
    made = LoadedVersion(entry, loading.load(entry, threads=1), queue)
    yield made
    made.leave()


def run_on(version: LoadedVersion, processor: int, monkeypatch: pytest.MonkeyPatch, *, alone: bool) -> Work:
    """One batch of one, run, in a thread that is on that processor."""
    monkeypatch.setattr(helpers, "_processor", lambda: processor)
    inputs = {"x": np.zeros((1, 4), np.float32)}
    work = Work(1, time.monotonic() + 60, lambda outputs: Reply(b""), inputs=inputs)
    version.queue.put(work)
    version.run(version.queue.take(time.monotonic()), alone=alone)
    return work


def test_who_helps_is_not_where_the_lone_request_runs(version: LoadedVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = os.sched_getaffinity(0)
    first, second = sorted(everywhere)[:2]
    assert version._helpers is not None
    [helper] = version._helpers.threads
    assert os.sched_getaffinity(helper) == everywhere
    for processor in (first, second, second, first):
        run_on(version, processor, monkeypatch, alone=True)
        assert os.sched_getaffinity(helper) == everywhere - {processor}
    run_on(version, second, monkeypatch, alone=False)
    assert os.sched_getaffinity(helper) == everywhere - {first}
    assert os.sched_getaffinity(0) == everywhere


def test_where_the_other_processors_were_taken_away_a_lone_request_is_answered(
    version: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert version._helpers is not None
    [first, *others] = sorted(os.sched_getaffinity(0))
    version._helpers._processors = {first}  # the system refuses to leave none
    assert run_on(version, first, monkeypatch, alone=True).answer == Reply(b"")
    assert run_on(version, others[0], monkeypatch, alone=True).answer == Reply(b"")


def test_a_thread_that_has_ended_meanwhile_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "comm").write_text(f"{helpers.NAME}\n")
    monkeypatch.setattr(helpers, "TASKS", tmp_path)
    assert helpers._named() == {2}


def test_only_threads_of_the_block_are_noted() -> None:
    own = helpers.TASKS / str(threading.get_native_id()) / "comm"
    name = own.read_text().strip()
    done = threading.Event()
    before, within, after = (threading.Thread(target=done.wait, daemon=True) for _ in range(3))
    with helpers.noted():
        before.start()
    with helpers.noted() as found:
        within.start()
    after.start()
    assert found is not None
    assert found.threads == [within.native_id]
    assert own.read_text().strip() == name
    done.set()
    for thread in (before, within, after):
        thread.join()


def test_a_processor_is_known_by_its_number() -> None:
    everywhere = os.sched_getaffinity(0)
    try:
        for processor in everywhere:
            os.sched_setaffinity(0, {processor})
            assert helpers._processor() == processor
    finally:
        os.sched_setaffinity(0, everywhere)
