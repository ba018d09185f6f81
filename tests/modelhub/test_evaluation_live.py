"""A version on another data set than its own, on a real site: over HTTP, by a trainer, with its events and its bill."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.live import live_site
from tests.modelhub import bright, zips
from tests.modelhub.test_trainer import ENDED, TrainingSite
from tests.publishing import CNN, publish

ABOUT = CNN | {
    "engine": "onnx",
    "inputs": ("image", (-1, bright.SIDE, bright.SIDE, 3)),
    **{name: bright.ABOUT[name] for name in ("preprocessing", "labels", "decision")},
}


@pytest.fixture(scope="module")
def at() -> Iterator[TrainingSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), TRAINING_LEASE_SECONDS="3") as site:
        found = TrainingSite(site)
        publish(site, tenant="acme", model="light", path=bright.model(Path(var) / "model.onnx"), **ABOUT)
        with contextlib.closing(found.client):
            yield found


def sealed(at: TrainingSite, name: str, files: dict[str, bytes]) -> str:
    dataset = at.client.post("/datasets", json={"name": name, "kind": "image-classification"}).json()["id"]
    zipped = {"Content-Type": "application/zip"}
    assert at.client.put(f"/datasets/{dataset}/content", content=zips.packed(files), headers=zipped).status_code == 200
    assert at.client.post(f"/datasets/{dataset}/seal").status_code == 200
    return str(dataset)


def asked(at: TrainingSite, dataset: str, **changes: Any) -> str:
    answer = at.client.post("/evaluations", json={"model": "light", "version": 1, "dataset": dataset} | changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def wait(at: TrainingSite, evaluation: str, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (found := at.client.get(f"/evaluations/{evaluation}").json())["state"] not in states:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return dict(found)


def test_a_version_is_evaluated_on_another_data_set(at: TrainingSite) -> None:
    dataset = sealed(at, "lights", bright.files(wrong=1))
    before = at.training_seconds()
    with at.trainer():
        found = wait(at, asked(at, dataset, slices=["class"]), *ENDED)
    assert found["state"] == "succeeded", found
    result = found["result"]
    assert (result["rows"], result["metrics"]["accuracy"]) == (8, 0.875)
    assert result["slices"]["class"]["groups"]["bright"]["accuracy"] == 0.75
    assert [one["name"] for one in found["mistakes"]] == ["validation/bright/0.jpg"]
    assert float(at.training_seconds() - before) == pytest.approx(found["training_seconds"])
    for drawing in ("confusion", "reliability", "mistakes"):
        answer = at.client.get(f"/evaluations/{found['id']}/{drawing}.svg")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml; charset=utf-8")
    assert "data:image/jpeg;base64," in answer.text
    assert at.left_behind() == []


def test_one_that_runs_is_cancelled_and_its_child_has_no_secrets(at: TrainingSite) -> None:
    noise = zips.good(classes=("bright", "dark"), train=40, validation=2, first=500)
    dataset = sealed(at, "many", {name: zips.picture(n, height=400, width=400) for n, name in enumerate(noise)})
    with at.trainer() as trainer:
        evaluation = asked(at, dataset, split="all")
        deadline = time.monotonic() + 60
        while not (children := psutil.Process(trainer.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert at.client.post(f"/evaluations/{evaluation}/cancel").status_code == 202
        assert not {"DATABASE_URL", "SECRET_KEY", "MANIFEST_KEY"} & children[0].environ().keys()
        found = wait(at, evaluation, *ENDED)
    assert (found["state"], found["result"]) == ("cancelled", None)
    assert at.left_behind() == []


def events_of(client: httpx.Client, job: str, **headers: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/training-jobs/{job}/events", headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).split("\n\n")
    found = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if "data: " in block]
    return [event | {"data": json.loads(event["data"])} for event in found]


def test_a_training_is_followed_by_its_events_until_its_end(at: TrainingSite) -> None:
    with at.trainer(PICTURE_MAX_PIXELS="10"):
        job = at.train(epochs=1)
        events = events_of(at.client, job)
    assert [events[-1]["event"], events[-1]["data"]["state"]] == ["state", "failed"]
    states = [event["data"]["state"] for event in events if event["event"] == "state"]
    assert states[-1] == "failed"
    logged = [event["data"]["number"] for event in events if event["event"] == "log"]
    assert logged == list(range(1, len(logged) + 1))
    assert len(logged) > 40  # each of the 40 pictures that were left out, and where it broke off
    assert "progress" in [event["event"] for event in events]
    middle = next(event for event in events if event["event"] == "log" and event["data"]["number"] == 10)
    again = events_of(at.client, job, **{"Last-Event-ID": middle["id"]})
    assert [event["data"]["number"] for event in again if event["event"] == "log"] == logged[10:]
    assert again[-1] == events[-1]
    ended = at.client.get(f"/training-jobs/{job}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert ended.status_code == 204
    assert at.client.get("/training-jobs/job_none/events").status_code == 404


def test_the_best_of_a_search_evaluates_as_it_was_trained(at: TrainingSite) -> None:
    body = {
        "dataset": at.dataset,
        "model": "cats",
        "recipe": "image-classifier",
        "parameters": {"epochs": 1, "steps_per_epoch": 1},
        "space": {"seed": [1, 2]},
    }
    made = at.client.post("/searches", json=body)
    assert made.status_code == 201, made.text
    with at.trainer():
        for job in made.json()["jobs"]:
            # Followed, so that the epochs come by the stream, too.
            events = events_of(at.client, job["id"])
            assert [event["data"]["epoch"] for event in events if event["event"] == "epoch"] == [1]
            assert events[-1]["data"]["state"] == "succeeded", events[-1]
        search = at.client.get(f"/searches/{made.json()['id']}").json()
        assert (search["state"], search["counts"]["succeeded"]) == ("succeeded", 2)
        values = [at.job(job["id"])["metrics"][0]["val_accuracy"] for job in search["jobs"]]
        best = search["best"]
        assert (best["metric"], best["value"]) == ("val_accuracy", max(values))
        again = asked(at, at.dataset, model="cats", version=best["version"])
        found = wait(at, again, *ENDED)
    version = at.client.get(f"/models/cats/versions/{best['version']}").json()
    # What is served may be the smaller file, which the gate lets be wrong on one row in a hundred more: none of these.
    assert found["result"]["rows"] == version["metrics"]["rows"] == 24
    assert found["result"]["metrics"]["accuracy"] == pytest.approx(version["metrics"]["accuracy"], abs=0.05)
    compared = at.client.get("/models/cats/compare", params={"versions": "1,2"}).json()
    assert (compared["same_dataset"], compared["parameters"]) == (True, {"seed": [1, 2]})
