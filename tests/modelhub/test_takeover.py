"""Trainers that die while they train, on a real site: their jobs go on elsewhere and end as if nothing had been."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import live_site
from tests.modelhub.test_trainer import TrainingSite, ended

PARAMETERS: dict[str, Any] = {
    "architecture": "convnet", "epochs": 3, "steps_per_epoch": 4, "batch_size": 8, "learning_rate": 0.003, "seed": 11,
}  # fmt: skip

# A machine on which much else runs is slow; nothing here is faster for it.
PATIENCE = 600.0


@pytest.fixture(scope="module")
def at() -> Iterator[TrainingSite]:
    settings = {"TRAINING_LEASE_SECONDS": "2", "TRAINING_CHECKPOINT_SECONDS": "0"}
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), **settings) as site:
        found = TrainingSite(site)
        with contextlib.closing(found.client):
            yield found


def checkpoints(at: TrainingSite) -> list[str]:
    return [path.name for path in (at.site.var / "files" / "checkpoints").rglob("*") if path.is_file()]


def wait_for_checkpoint(at: TrainingSite, after: set[str], *, seconds: float = PATIENCE) -> set[str]:
    """Another one than those before."""
    deadline = time.monotonic() + seconds
    while not (found := set(checkpoints(at)) - after):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def learned(at: TrainingSite, job: dict[str, Any]) -> tuple[Any, ...]:
    """All that two trainings have in common if they went the same way."""
    version = at.client.get(f"/models/cats/versions/{job['version']['number']}").json()
    epochs = [{key: row[key] for key in row if key not in ("seconds", "rows_per_second")} for row in job["metrics"]]
    return epochs, version["metrics"], version["files"]["model.fp32.tflite"]["sha256"]


def test_a_job_whose_trainers_were_killed_ends_as_an_undisturbed_one(at: TrainingSite) -> None:
    with at.trainer():
        whole = at.wait(at.train(**PARAMETERS), ended, seconds=PATIENCE)
    assert whole["state"] == "succeeded", (whole, at.log(whole["id"]))
    before = at.training_seconds()
    job, seen = at.train(**PARAMETERS), set[str]()
    for attempt in (1, 2):
        with at.trainer() as trainer:
            at.wait(job, lambda j, a=attempt: j["attempt"] == a, seconds=PATIENCE)  # type: ignore[misc]
            seen |= wait_for_checkpoint(at, seen)
            seen |= wait_for_checkpoint(at, seen)
            trainer.kill()
            trainer.wait()
        assert at.job(job)["state"] == "running"
    with at.trainer():
        found = at.wait(job, ended, seconds=PATIENCE)
    assert (found["state"], found["attempt"]) == ("succeeded", 3), (found, at.log(job))
    assert at.log(job).count("Taken up from a checkpoint") == 2
    assert learned(at, found) == learned(at, whole)
    assert float(at.training_seconds() - before) == pytest.approx(found["training_seconds"])
    assert checkpoints(at) == []
    assert at.left_behind() == []


def test_a_cancelled_job_leaves_a_version_of_its_best_and_is_billed(at: TrainingSite) -> None:
    before = at.training_seconds()
    with at.trainer():
        job = at.train(**PARAMETERS | {"epochs": 500})
        at.wait(job, lambda j: len(j["metrics"]) >= 2, seconds=PATIENCE)
        assert at.client.post(f"/training-jobs/{job}/cancel", json={"keep_best": True}).status_code == 202
        found = at.wait(job, ended, seconds=PATIENCE)
    assert found["state"] == "cancelled", (found, at.log(job))
    values = [row["val_accuracy"] for row in found["metrics"]]
    best = 1 + values.index(max(values))
    assert found["stop_reason"] == (
        f"The training was stopped in epoch {len(values)} of 500 because it was cancelled; the version is the best of "
        f"what it had learned by then, that of epoch {best}."
    )
    version = at.client.get(f"/models/cats/versions/{found['version']['number']}").json()
    assert version["metrics"]["accuracy"] == pytest.approx(max(values))
    assert float(at.training_seconds() - before) == pytest.approx(found["training_seconds"])
    assert checkpoints(at) == []


def test_a_training_goes_on_from_a_versions_weights(at: TrainingSite) -> None:
    with at.trainer():
        first = at.wait(at.train(**PARAMETERS | {"epochs": 1}), ended, seconds=PATIENCE)
        assert first["state"] == "succeeded", first
        answer = at.client.post(f"/training-jobs/{first['id']}/retrain", json={"warm_start": True})
        assert answer.status_code == 201, answer.text
        second = at.wait(answer.json()["id"], ended, seconds=PATIENCE)
        log = at.log(second["id"])
    assert second["state"] == "succeeded", (second, log)
    assert f"Begun with the weights of cats@{first['version']['number']}." in log
    assert second["metrics"][0]["loss"] != first["metrics"][0]["loss"]
