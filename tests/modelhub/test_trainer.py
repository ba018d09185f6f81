"""The trainer on a real site: from a data set to a version, and every way in which a job can end otherwise."""

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live import LiveSite, live_site
from tests.modelhub import zips

API = "/api/v1"
ENDED = ("succeeded", "failed", "cancelled")


class TrainingSite:
    """A site with the tenant acme and a small sealed data set; trainers are started by the tests."""

    def __init__(self, site: LiveSite) -> None:
        import json

        self.site = site
        site.manage("create_tenant", "acme")
        made = site.manage(
            "create_api_key", "acme", "--name", "test", "--scopes", "predict,read,manage,billing", "--json"
        )
        site.start_server()
        self.client = httpx.Client(
            base_url=site.url + API, headers={"Authorization": f"Bearer {json.loads(made)['key']}"}, timeout=30
        )
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

    def train(self, **parameters: Any) -> str:
        body = {"dataset": self.dataset, "model": "cats", "recipe": "image-classifier", "parameters": parameters}
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

    def training_seconds(self) -> Decimal:
        """What the ledger holds of this month."""
        rows = self.client.get("/usage", params={"meter": "training_seconds", "bucket_width": "month"}).json()[
            "results"
        ]
        return sum((Decimal(row["quantity"]) for row in rows), Decimal(0))


def ended(job: dict[str, Any]) -> bool:
    return str(job["state"]) in ENDED


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
    assert job["state"] == "succeeded", (job, at.log(job["id"]))
    print(job, at.log(job["id"]))
    version = at.client.get("/models/cats/versions/1").json()
    print(version)
    assert at.training_seconds() - before == Decimal(str(job["training_seconds"]))
