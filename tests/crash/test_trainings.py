"""SIGKILL of trainers at random moments of real trainings: each job ends once, with one version, billed once."""

import random
import signal
import time
from typing import Any

import httpx

from tests.crash import oracle
from tests.crash.conftest import ROUNDS, CrashSite, stop
from tests.modelhub import zips

JOBS = 2
TRAINERS = 2
SETTINGS = {
    "TRAINING_LEASE_SECONDS": "2", "TRAINING_CHECKPOINT_SECONDS": "0.5",
    # However often chance kills a job before its first checkpoint.
    "TRAINING_MAX_ATTEMPTS": "1000",
}  # fmt: skip
PARAMETERS = {"architecture": "convnet", "epochs": 2, "steps_per_epoch": 4, "batch_size": 8}
ENDED = """
import json
from modelhub.models import ModelVersion, TrainingJob
from tenants import scoping
from tenants.models import AuditEvent
with scoping.operator():
    print(json.dumps({
        "jobs": list(TrainingJob.across_tenants.values_list("id", "state", "checkpoint")),
        "versions": list(ModelVersion.across_tenants.exclude(job=None).values_list("job_id", flat=True)),
        "ends": list(AuditEvent.across_tenants.filter(verb__in=[
            "training_job.succeed", "training_job.fail", "training_job.end_cancelled", "training_job.abandon",
        ]).values_list("subject", flat=True)),
    }))
"""


class Customer:
    """Uploads a small data set and asks for trainings."""

    def __init__(self, at: CrashSite) -> None:
        headers = {"Authorization": f"Bearer {at.key}"}
        self._client = httpx.Client(base_url=f"{at.site.url}/api/v1", headers=headers, timeout=60)
        made = self._client.post("/datasets", json={"name": "pets", "kind": "image-classification"})
        self._dataset = made.json()["id"]
        body = zips.packed(zips.good(train=12, validation=6))
        path = f"/datasets/{self._dataset}"
        self._client.put(f"{path}/content", content=body, headers={"Content-Type": "application/zip"})
        assert self._client.post(f"{path}/seal").status_code == 200

    def asks(self, **parameters: Any) -> str:
        body = {
            "dataset": self._dataset, "model": "cats", "recipe": "image-classifier",
            "parameters": PARAMETERS | parameters,
        }  # fmt: skip
        answer = self._client.post("/training-jobs", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def in_state(self, *states: str) -> list[str]:
        pages = [self._client.get("/training-jobs", params={"state": state}).json() for state in states]
        return [row["id"] for page in pages for row in page["results"]]

    def wait_until_one_runs(self, *, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not self.in_state("running") and self.in_state("queued"):
            assert time.monotonic() < deadline, self.in_state("queued")
            time.sleep(0.2)

    def close(self) -> None:
        self._client.close()


def test_whichever_trainer_is_killed_each_training_ends_once(at: CrashSite, dice: random.Random) -> None:
    server = at.site.start_server(role="web")
    customer = Customer(at)
    jobs = [customer.asks(seed=number) for number in range(JOBS)]
    trainers = [at.site.start_trainer(**SETTINGS) for _ in range(TRAINERS)]
    for _ in range(ROUNDS):
        if not customer.in_state("queued", "running"):
            jobs.append(customer.asks(seed=len(jobs)))
        customer.wait_until_one_runs()
        time.sleep(dice.uniform(0, 8))
        place = dice.randrange(TRAINERS)
        trainers[place].kill()
        trainers[place].wait()
        trainers[place] = at.site.start_trainer(**SETTINGS)
    deadline = time.monotonic() + 600
    while found := customer.in_state("queued", "running"):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    customer.close()
    for trainer in trainers:
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait(60) in (0, -signal.SIGTERM)  # the latter while it starts
    stop(server)

    ended = at.site.python(ENDED)
    assert sorted(ended["jobs"]) == sorted([job, "succeeded", {}] for job in jobs)
    assert sorted(ended["versions"]) == sorted(ended["ends"]) == sorted(jobs)
    events = [event for event in oracle.check(at.site, []).events if "training_seconds" in event[6]]
    assert sorted(event[0] for event in events) == sorted(jobs)
    assert not any(path.is_file() for path in (at.site.var / "files" / "checkpoints").rglob("*"))
