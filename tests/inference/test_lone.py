"""A lone request on several threads: those that help are on other processors than the one that is helped."""

import os
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pytest_django import Settings

from inference import measurements
from inference.engines import catalog
from inference.engines.base import Tensor, Tensors
from inference.engines.measuring import Candidate, Measured
from inference.plane import loading
from inference.plane.directory import VersionEntry
from inference.plane.versions import LoadedVersion
from inference.queueing import HostRows, Queue
from inference.work import Reply, Work
from modelhub import priority
from modelhub.signatures import Signature, TensorSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processors of each thread")
ROWS = TensorSpec("x", "float32", (-1, 4))
SIGNATURE = Signature((ROWS,), (ROWS,))
MEASURED = Measured(Candidate("noting", "f"), {1: 0.005}, best_rows=1, alone={1: 0.005, 2: 0.003}, alone_threads=2)


class Noting:
    """A fake engine that notes the processors that were allowed when it was made and when it last ran."""

    name = "noting"
    outside_bytes = 0
    per_thread = True
    gone = False
    made: ClassVar[dict[int, "Noting"]] = {}

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        self.made_on = os.sched_getaffinity(0)
        self.ran_on: set[int] = set()
        self.made[threads] = self

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        self.ran_on = os.sched_getaffinity(0)
        return {"x": inputs["x"]}

    def close(self) -> None: ...


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings) -> LoadedVersion:
    """One that is served by the fake, by the second of two server processes."""
    file = tmp_path / "f"
    file.write_bytes(b"f")
    settings.INFERENCE_PROCESS = 1
    monkeypatch.setitem(catalog.ENGINES, "noting", Noting)
    monkeypatch.setattr(measurements, "measured", lambda **_: MEASURED)
    monkeypatch.setattr(loading, "_path", lambda entry, name: file)
    manifest = {"serving": {"engine": "noting", "file": "f"}, "signature": SIGNATURE.as_json()}
    entry = VersionEntry("ver_1", "ten_a", "cats", 1, "", manifest, "", SIGNATURE)
    queue = Queue(best_rows=1, limit=10, host=HostRows(100), tenant_id="ten_a")
    return LoadedVersion(entry, loading.load(entry, threads=1), queue)


def ran_on(version: LoadedVersion, engine: Noting, *, alone: bool) -> set[int]:
    """The processors that the engine was allowed during one batch of one."""
    inputs = {"x": np.zeros((1, 4), np.float32)}
    version.queue.put(Work(1, time.monotonic() + 60, lambda outputs: Reply(b""), inputs=inputs))
    version.run(version.queue.take(time.monotonic()), alone=alone)
    return engine.ran_on


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_who_helps_with_a_lone_request_is_elsewhere(version: LoadedVersion) -> None:
    everywhere = os.sched_getaffinity(0)
    own = {sorted(everywhere)[1]}
    by_itself, helped = Noting.made[1], Noting.made[2]
    assert (by_itself.made_on, helped.made_on) == (everywhere, everywhere - own)
    assert ran_on(version, helped, alone=True) == own
    assert ran_on(version, by_itself, alone=False) == everywhere == os.sched_getaffinity(0)


@pytest.mark.parametrize(
    ("scheduling", "allowed", "process", "found"),
    [
        ("nice", {0, 1}, 0, ({0}, {1})),
        ("nice", {0, 1}, 1, ({1}, {0})),
        ("nice", {2, 5, 7}, 4, ({5}, {2, 7})),
        ("nice", {4}, 1, (set(), set())),
        ("idle", {0, 1}, 0, (set(), set())),
    ],
)
def test_each_server_process_has_a_processor_for_lone_requests(
    monkeypatch: pytest.MonkeyPatch, settings: Settings,
    scheduling: str, allowed: set[int], process: int, found: tuple[set[int], set[int]],
) -> None:  # fmt: skip
    monkeypatch.setattr("os.sched_getaffinity", lambda process: allowed)
    settings.COMPUTE_SCHEDULING, settings.INFERENCE_PROCESS = scheduling, process
    assert priority.lone_processors() == found


def test_a_thread_stays_to_the_end_of_the_block() -> None:
    everywhere = os.sched_getaffinity(0)
    one = {min(everywhere)}
    with priority.staying_on(one):
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == everywhere
    with priority.staying_on(set()):
        assert os.sched_getaffinity(0) == everywhere
