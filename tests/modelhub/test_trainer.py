"""The trainer on a real site: from a data set to a version, and every way in which a job can end otherwise."""

import contextlib
import math
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from ai_edge_litert.interpreter import Interpreter

from modelhub import priority
from tests.live import LiveSite, live_site
from tests.modelhub import zips
from tests.publishing import make_key

API = "/api/v1"
ENDED = ("succeeded", "failed", "cancelled")


class TrainingSite:
    """A site with the tenant acme and a small sealed data set; trainers are started by the tests."""

    def __init__(self, site: LiveSite) -> None:
        self.site = site
        site.manage("create_tenant", "acme")
        key = make_key(site, "acme")
        site.start_server()
        self.client = httpx.Client(base_url=site.url + API, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        self.dataset = self.sealed_dataset("pets")

    def sealed_dataset(self, name: str) -> str:
        made = self.client.post("/datasets", json={"name": name, "kind": "image-classification"})
        body = zips.packed(zips.good(train=20, validation=12))
        dataset = made.json()["id"]
        loaded = self.client.put(
            f"/datasets/{dataset}/content", content=body, headers={"Content-Type": "application/zip"}
        )
        assert loaded.status_code == 200, loaded.text
        assert self.client.post(f"/datasets/{dataset}/seal").status_code == 200
        return str(dataset)

    def train(self, budget: str | None = None, **parameters: Any) -> str:
        body = {"dataset": self.dataset, "model": "cats", "recipe": "image-classifier", "parameters": parameters}
        body |= {"budget": budget} if budget else {}
        answer = self.client.post("/training-jobs", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        answer = self.client.get(f"/training-jobs/{job}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, job: str, until: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not until(found := self.job(job)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def log(self, job: str) -> str:
        return "\n".join(line["text"] for line in self.client.get(f"/training-jobs/{job}/logs").json()["results"])

    @contextlib.contextmanager
    def trainer(self, **settings: str) -> Iterator[Any]:
        process = self.site.start_trainer(**settings)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGKILL)

    def used(self, meter: str) -> Decimal:
        """What the ledger holds of this month."""
        rows = self.client.get("/usage", params={"meter": meter, "bucket_width": "month"}).json()["results"]
        return sum((Decimal(row["quantity"]) for row in rows), Decimal(0))

    def training_seconds(self) -> Decimal:
        return self.used("training_seconds")

    def stored(self, sha256: str) -> Path:
        (file,) = (self.site.var / "files").rglob(sha256)
        tenant = file.parent.parent.name
        code = f"print(json.dumps(str(storage.local_path(tenant_id={tenant!r}, sha256={sha256!r}))))"
        return Path(self.site.python(f"import json\nfrom modelhub import storage\n{code}"))

    def left_behind(self) -> list[Path]:
        """What jobs that ended have left in the scratch folder."""
        return list((self.site.var / "scratch" / "training").iterdir())


def ended(job: dict[str, Any]) -> bool:
    return str(job["state"]) in ENDED


def wait_until_gone(process: psutil.Process, *, seconds: float) -> None:
    """It runs no more; who has to bury it may not have done so yet."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, process
            time.sleep(0.05)


def trains(job: dict[str, Any]) -> bool:
    return bool(job["progress"].get("phase") == "training")


@pytest.fixture(scope="module")
def at() -> Iterator[TrainingSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), TRAINING_LEASE_SECONDS="3") as site:
        found = TrainingSite(site)
        with contextlib.closing(found.client):
            yield found


def test_a_data_set_becomes_a_version(at: TrainingSite) -> None:
    before = at.training_seconds()
    with at.trainer():
        job = at.wait(at.train(epochs=1, steps_per_epoch=2, seed=7), ended)
        log = at.log(job["id"])
    assert job["state"] == "succeeded", (job, log)
    assert [row["epoch"] for row in job["metrics"]] == [1]
    assert "0000 00:00" not in log, "TensorFlow's chatter is in the log"
    assert at.training_seconds() - before == Decimal(str(job["training_seconds"])) > 1
    version = at.client.get("/models/cats/versions/1").json()
    assert version["id"] == job["version"]["id"]
    assert version["lineage"]["job"] == job["id"]
    assert version["lineage"]["dataset"] == at.dataset
    assert version["metrics"]["rows"] == sum(map(sum, version["metrics"]["confusion_matrix"]["matrix"])) == 24
    assert version["labels"] == ["cat", "dog"]
    assert version["conversion"]["files"]["model.fp32.tflite"]["max_difference"] <= 1e-3
    assert version["serving"]["file"] == version["conversion"]["served"]
    assert version["files"]["model.int8.tflite"]["size"] < version["files"]["model.fp32.tflite"]["size"] / 3
    # Without the optimizer's state the Keras file is no larger than the weights.
    assert version["files"]["model.keras"]["size"] < 1.01 * version["files"]["model.fp32.tflite"]["size"]
    for name in ("model.fp32.tflite", "model.int8.tflite"):
        check_litert(at.stored(version["files"][name]["sha256"]), rows=3)
    assert at.left_behind() == []


def check_litert(file: Path, *, rows: int) -> None:
    """The file takes and gives the tensors of its signature, for any number of rows."""
    interpreter = Interpreter(model_path=str(file))
    ((given, details),) = interpreter.get_signature_runner().get_input_details().items()
    ((answered, answer),) = interpreter.get_signature_runner().get_output_details().items()
    assert (given, answered) == ("image", "score")
    assert list(details["shape_signature"]) == [-1, 150, 150, 3]
    interpreter.resize_tensor_input(details["index"], (rows, 150, 150, 3))
    interpreter.allocate_tensors()
    interpreter.set_tensor(details["index"], np.zeros((rows, 150, 150, 3), np.float32))
    interpreter.invoke()
    scores = interpreter.get_tensor(answer["index"])
    assert scores.shape == (rows, 1)
    assert scores.dtype == np.float32


def test_a_running_job_is_cancelled_within_two_seconds_and_billed(at: TrainingSite) -> None:
    before = at.training_seconds()
    with at.trainer() as trainer:
        job = at.train(epochs=200)
        at.wait(job, trains)
        (child,) = psutil.Process(trainer.pid).children()
        asked = time.monotonic()
        assert at.client.post(f"/training-jobs/{job}/cancel").status_code == 202
        found = at.wait(job, ended)
        assert time.monotonic() - asked < 2
        assert found["state"] == "cancelled"
        wait_until_gone(child, seconds=0)
    assert at.training_seconds() - before == Decimal(str(found["training_seconds"])) > 0
    assert at.left_behind() == []


def test_a_child_has_no_secrets_and_dies_with_its_trainer_whose_job_another_takes_over(at: TrainingSite) -> None:
    before = at.training_seconds()
    with at.trainer() as first:
        job = at.train(epochs=200)
        at.wait(job, trains)
        (child,) = psutil.Process(first.pid).children()
        assert child.nice() == psutil.Process(first.pid).nice() + priority.ENGINES
        environment = child.environ()
        assert not {"DATABASE_URL", "SECRET_KEY", "MASTER_KEY", "MANIFEST_KEY"} & environment.keys()
        assert str(at.site.var) not in environment.get("VAR_DIR", "")
        first.kill()
        first.wait()
        wait_until_gone(child, seconds=2)
        assert at.job(job)["state"] == "running"
    with at.trainer() as second:
        found = at.wait(job, lambda j: j["attempt"] == 2)
        assert found["state"] == "running"
        at.wait(job, trains)
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
    found = at.job(job)
    assert (found["state"], found["attempt"], found["progress"]) == ("queued", 1, {})
    assert at.client.post(f"/training-jobs/{job}/cancel").json()["state"] == "cancelled"
    assert at.training_seconds() == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"TRAINING_MAX_MEMORY_BYTES": str(150 * 1024**2)}, "ran out of memory: it needed more than the 150 MiB"),
        ({"TRAINING_MAX_SECONDS": "2"}, "stopped after 2 seconds"),
    ],
)
def test_a_job_over_a_limit_fails_in_words(at: TrainingSite, settings: dict[str, str], words: str) -> None:
    before = at.training_seconds()
    with at.trainer(**settings):
        found = at.wait(at.train(epochs=200), ended)
    assert found["state"] == "failed"
    assert words in found["error"]
    assert found["training_seconds"] < 10
    assert at.training_seconds() == before
    assert at.left_behind() == []


PRICE = """
from datetime import date
from decimal import Decimal
from tenants.models import Price
Price.objects.filter(plan="standard", meter="training_seconds").update(amount=Decimal({amount!r}), per=Decimal(1))
print(0)
"""


def best_epoch(job: dict[str, Any]) -> int:
    """The first of the epochs that was right most often on what it did not learn from."""
    found = [epoch["val_accuracy"] for epoch in job["metrics"]]
    return found.index(max(found)) + 1


def test_a_training_stops_in_time_for_its_budget_and_keeps_what_it_learned(at: TrainingSite) -> None:
    at.site.python(PRICE.format(amount="0.01"))
    with at.trainer():
        short = at.wait(at.train(epochs=1, steps_per_epoch=2), ended, seconds=200)
        assert short["state"] == "succeeded", short
        # As long as this machine needs now, and as long again a few times to train in.
        paid = 5 * math.ceil(short["training_seconds"])
        budget = f"{paid / 100:.2f}"
        before = at.training_seconds()
        found = at.wait(at.train(budget=budget, epochs=200, steps_per_epoch=50), ended, seconds=paid + 60)
    assert found["state"] == "succeeded", (found, short["training_seconds"], at.log(found["id"]))
    assert found["budget"] == {"amount": budget, "currency": "EUR"}
    assert 0 < len(found["metrics"]) < 200
    assert found["stop_reason"] == (
        f"The training was stopped in epoch {len(found['metrics'])} of 200 to keep within its budget of {budget} EUR; "
        f"the version is the best of what it had learned by then, that of epoch {best_epoch(found)}."
    )
    assert 0 < at.training_seconds() - before <= paid
    version = at.client.get(f"/models/cats/versions/{found['version']['number']}").json()
    assert version["lineage"]["job"] == found["id"]


def test_a_budget_that_is_used_up_before_there_is_a_version_fails_the_job_in_words(at: TrainingSite) -> None:
    at.site.python(PRICE.format(amount="0.10"))
    before = at.training_seconds()
    with at.trainer():
        found = at.wait(at.train(budget="1.00", epochs=200), ended, seconds=300)
    assert found["state"] == "failed", found
    assert "its budget of 1.00 EUR, which pays 10.000 seconds, before there was a version to keep" in found["error"]
    assert found["training_seconds"] <= 10
    assert at.training_seconds() == before
    assert at.left_behind() == []


def test_a_job_within_its_budget_is_done_whole(at: TrainingSite) -> None:
    at.site.python(PRICE.format(amount="0.0001"))
    with at.trainer():
        found = at.wait(at.train(budget="0.30", epochs=2, steps_per_epoch=2), ended, seconds=300)
    assert (found["state"], len(found["metrics"]), found["stop_reason"]) == ("succeeded", 2, None)


def test_pictures_that_cannot_be_read_any_more_fail_the_job_in_words(at: TrainingSite) -> None:
    with at.trainer(PICTURE_MAX_PIXELS="10"):
        job = at.wait(at.train(epochs=1), ended)
    assert job["state"] == "failed"
    assert "train split has no picture of cat and dog that can be read: 0 of its 40 files" in job["error"]
    assert "Traceback" not in job["error"]
    log = at.log(job["id"])
    assert "Left out train/cat/0.jpg: The picture has" in log
    assert "Traceback" in log


def test_stored_bytes_are_told_to_the_ledger(at: TrainingSite) -> None:
    before = at.used("stored_byte_hours")
    with at.trainer(STORAGE_ACCRUAL_SECONDS="0.2"):
        deadline = time.monotonic() + 10
        while at.used("stored_byte_hours") == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
