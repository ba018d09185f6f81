"""Batch predictions on a real site: results, progress, cancelling, a worker that is killed, and the bill."""

import contextlib
import hashlib
import json
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
import simplejpeg

from tests.live import LiveSite, free_port, live_site
from tests.modelhub import zips
from tests.publishing import CNN, TINY, make_key, publish

API = "/api/v1"
ENDED = ("succeeded", "failed", "cancelled", "stopped")
SLOW_ROWS = 160


class BatchSite:
    """A site with the tenant acme, a deployed model of pictures, and a small and a slow data set."""

    def __init__(self, site: LiveSite, files: dict[str, Path]) -> None:
        self.site = site
        for tenant in ("acme", "globex"):
            site.manage("create_tenant", tenant)
        publish(site, tenant="acme", model="cats", path=files["cnn.int8.tflite"], deployment="cats", **CNN)
        publish(site, tenant="acme", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
        site.start_server()
        self.client = self.client_of(make_key(site, "acme"))
        self.globex = self.client_of(make_key(site, "globex"))
        self.pictures = zips.good(train=5, validation=3)
        self.dataset = self.sealed("pets", self.pictures)
        self.slow = self.sealed("large", large_pictures())

    def client_of(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.site.url + API, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def sealed(self, name: str, files: dict[str, bytes]) -> str:
        made = self.client.post("/datasets", json={"name": name, "kind": "image-classification"})
        dataset = str(made.json()["id"])
        headers = {"Content-Type": "application/zip"}
        loaded = self.client.put(f"/datasets/{dataset}/content", content=zips.packed(files), headers=headers)
        assert loaded.status_code == 200, loaded.text
        assert self.client.post(f"/datasets/{dataset}/seal").status_code == 200
        return dataset

    def ask(self, dataset: str, deployment: str = "cats", **more: str) -> httpx.Response:
        return self.client.post("/batch-predictions", json={"deployment": deployment, "dataset": dataset} | more)

    def begin(self, dataset: str, **more: str) -> str:
        answer = self.ask(dataset, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        answer = self.client.get(f"/batch-predictions/{job}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, job: str, until: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not until(found := self.job(job)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def lines(self, job: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"/batch-predictions/{job}/results")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.content == b"" or answer.content.endswith(b"\n")
        about = self.job(job)["results"]
        assert about == {"sha256": hashlib.sha256(answer.content).hexdigest(), "size": len(answer.content)}
        return [json.loads(line) for line in answer.content.splitlines()]

    def billed(self) -> Decimal:
        query = {"meter": "batch_predictions", "bucket_width": "month"}
        rows = self.client.get("/usage", params=query).json()["results"]
        return sum((Decimal(row["quantity"]) for row in rows), Decimal(0))

    def left_behind(self) -> list[Path]:
        return list((self.site.var / "scratch" / "batches").iterdir())

    @contextlib.contextmanager
    def worker(self, **settings: str) -> Iterator[Any]:
        process = self.site.start_batch_worker(**settings)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGKILL)


def large_pictures() -> dict[str, bytes]:
    """Pictures that take long to decode and little room, each another."""

    def picture(number: int) -> bytes:
        pixels = np.full((1600, 1600, 3), number, np.uint8)
        return bytes(simplejpeg.encode_jpeg(pixels, quality=50))

    half = SLOW_ROWS // 4
    return {
        f"{split}/{label}/{number:03}.jpg": picture(first + number)
        for first, (split, label) in enumerate(
            (split, label) for split in ("train", "validation") for label in ("cat", "dog")
        )
        for number in range(first * 40, first * 40 + half)
    }


def ended(job: dict[str, Any]) -> bool:
    return str(job["state"]) in ENDED


def is_amid(job: dict[str, Any]) -> bool:
    assert job["state"] not in ENDED, "it ended before it could be interrupted"
    return bool(0 < job["rows"]["done"] < job["rows"]["total"])


@pytest.fixture(scope="module")
def at(model_files: dict[str, Path]) -> Iterator[BatchSite]:
    settings = {"BATCH_LEASE_SECONDS": "2", "EVENT_STREAMS_PER_TENANT": "2"}
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), **settings) as site:
        found = BatchSite(site, model_files)
        with contextlib.closing(found.client), contextlib.closing(found.globex):
            yield found


def test_every_row_has_its_line_in_order_and_its_place_on_the_bill(at: BatchSite) -> None:
    before, online = at.billed(), at.client.get("/usage", params={"meter": "predictions"}).json()["results"]
    with at.worker():
        job = at.wait(at.begin(at.dataset), ended)
    assert job["state"] == "succeeded", job
    assert job["rows"] == {"total": 16, "done": 16, "failed": 0}
    assert (job["deployment"], job["model"], job["version"]) == ("cats", "cats", 1)
    lines = at.lines(job["id"])
    assert [line["item"] for line in lines] == sorted(at.pictures)
    assert at.client.get("/usage", params={"meter": "predictions"}).json()["results"] == online
    assert at.billed() - before == 16
    assert at.left_behind() == []
    for line in lines[:3]:
        headers = {"Content-Type": "image/jpeg"}
        answer = at.client.post("/deployments/cats/predict", content=at.pictures[line["item"]], headers=headers)
        assert line["prediction"]["label"] == answer.json()["label"]
        assert line["prediction"]["scores"] == pytest.approx(answer.json()["scores"], abs=1e-3)
    month = job["finished_at"][:7]
    invoice = {line["meter"]: line for line in at.client.get(f"/invoices/{month}").json()["lines"]}
    assert invoice["batch_predictions"]["unit"] == "1,000 batch predictions"


def test_a_row_that_cannot_be_read_has_an_error_and_is_not_billed(at: BatchSite) -> None:
    before = at.billed()
    mixed = at.sealed(
        "mixed", zips.good(train=2, validation=1, first=70) | {"train/dog/big.jpg": zips.picture(1, height=90)}
    )
    with at.worker(PICTURE_MAX_PIXELS="500"):
        job = at.wait(at.begin(mixed), ended)
    assert (job["state"], job["rows"]) == ("succeeded", {"total": 7, "done": 7, "failed": 1})
    bad = {line["item"]: line for line in at.lines(job["id"])}.pop("train/dog/big.jpg")
    assert bad.keys() == {"item", "error"}
    assert bad["error"]["status"] == 400
    assert "500" in bad["error"]["detail"]
    assert at.billed() - before == 6


def test_a_running_job_is_cancelled_and_what_it_has_done_is_kept_and_billed(at: BatchSite) -> None:
    before = at.billed()
    with at.worker():
        job = at.begin(at.slow)
        at.wait(job, is_amid)
        asked = time.monotonic()
        assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 202
        found = at.wait(job, ended)
        assert time.monotonic() - asked < 5
    assert found["state"] == "cancelled"
    assert 0 < found["rows"]["done"] < SLOW_ROWS
    assert len(at.lines(job)) == found["rows"]["done"] == at.billed() - before
    assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 200
    assert at.left_behind() == []


def test_a_job_that_waits_is_cancelled_at_once_without_results(at: BatchSite) -> None:
    before = at.billed()
    job = at.begin(at.dataset)
    assert at.client.get(f"/batch-predictions/{job}/results").status_code == 409
    answer = at.client.post(f"/batch-predictions/{job}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert at.client.get(f"/batch-predictions/{job}/results").status_code == 409
    assert at.billed() == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_another_worker_goes_on_where_one_ended(at: BatchSite, how: signal.Signals) -> None:
    before = at.billed()
    with at.worker() as first:
        job = at.begin(at.slow)
        at.wait(job, is_amid)
        first.send_signal(how)
        first.wait(20)
    stood = at.job(job)
    assert is_amid(stood)
    assert stood["state"] == ("running" if how == signal.SIGKILL else "queued")
    at.site.python(MARK.format(job=job))
    with at.worker():
        found = at.wait(job, ended)
    assert (found["state"], found["attempt"]) == ("succeeded", 2 if how == signal.SIGKILL else 1)
    lines = at.lines(job)
    assert [line["item"] for line in lines] == sorted(large_pictures())
    assert all("prediction" in line for line in lines)
    assert at.billed() - before == SLOW_ROWS
    assert stood["rows"]["done"] <= at.site.python(FIRST_SEEN.format(job=job)), "it began anew"
    assert at.left_behind() == []


# A trigger writes down the fewest rows that the job was ever said to have done from here on.
MARK = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute('''
        CREATE TABLE IF NOT EXISTS fewest (job text PRIMARY KEY, done int);
        CREATE OR REPLACE FUNCTION note_fewest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE fewest SET done = least(done, NEW.rows_done) WHERE job = NEW.id; RETURN NEW; END $$;
        CREATE OR REPLACE TRIGGER note_fewest AFTER UPDATE ON inference_batchprediction
            FOR EACH ROW EXECUTE FUNCTION note_fewest();''')
    cursor.execute("INSERT INTO fewest VALUES (%s, 1000000)", [{job!r}])
print(0)
"""
FIRST_SEEN = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT done FROM fewest WHERE job = %s", [{job!r}])
    print(cursor.fetchone()[0])
"""


def test_results_that_are_not_those_reported_are_made_anew(at: BatchSite) -> None:
    before = at.billed()
    with at.worker() as first:
        job = at.begin(at.slow)
        at.wait(job, is_amid)
        first.kill()
        first.wait()
    (folder,) = at.left_behind()
    lines = folder / "lines.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b"cat", b"cow"))
    with at.worker():
        assert at.wait(job, ended)["state"] == "succeeded"
    assert [line["item"] for line in at.lines(job)] == sorted(large_pictures())
    assert at.billed() - before == SLOW_ROWS


def test_a_cancelled_job_whose_worker_was_killed_keeps_and_bills_what_it_had(at: BatchSite) -> None:
    before = at.billed()
    with at.worker() as first:
        job = at.begin(at.slow)
        at.wait(job, is_amid)
        first.kill()
        first.wait()
    assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 202
    with at.worker():
        found = at.wait(job, ended)
    assert found["state"] == "cancelled"
    assert len(at.lines(job)) == found["rows"]["done"] == at.billed() - before > 0


def test_a_job_that_needs_too_much_memory_fails_in_words_and_costs_nothing(at: BatchSite) -> None:
    before = at.billed()
    with at.worker(BATCH_MAX_MEMORY_BYTES=str(20 * 1024**2)):
        found = at.wait(at.begin(at.slow), ended)
    assert found["state"] == "failed"
    assert "The batch prediction ran out of memory: it needed more than the 20 MiB" in found["error"]
    assert at.billed() == before
    assert at.client.get(f"/batch-predictions/{found['id']}/results").status_code == 409


def test_all_rows_are_answered_by_the_version_of_the_beginning(at: BatchSite) -> None:
    job = at.begin(at.dataset)
    assert at.client.patch("/deployments/cats", json={"model": "tiny", "version": 1}).status_code == 200
    try:
        with at.worker():
            found = at.wait(job, ended)
    finally:
        assert at.client.patch("/deployments/cats", json={"model": "cats", "version": 1}).status_code == 200
    assert (found["state"], found["model"]) == ("succeeded", "cats")
    assert all("label" in line["prediction"] for line in at.lines(job))


def test_what_cannot_be_done_is_refused(at: BatchSite) -> None:
    refused = at.ask(at.dataset, deployment="tiny")
    assert refused.status_code == 400
    assert "no recipe that reads files" in refused.json()["detail"]
    assert at.ask(at.dataset, deployment="none").status_code == 400
    unsealed = at.client.post("/datasets", json={"name": "open", "kind": "image-classification"}).json()["id"]
    assert at.ask(unsealed).status_code == 409
    assert at.client.post("/deployments/cats/pause").status_code == 200
    paused = at.ask(at.dataset)
    assert at.client.post("/deployments/cats/resume").status_code == 200
    assert (paused.status_code, "is paused" in paused.json()["detail"]) == (409, True)


def test_a_retry_with_the_same_key_makes_no_second_job(at: BatchSite) -> None:
    body, headers = {"deployment": "cats", "dataset": at.dataset}, {"Idempotency-Key": "once"}
    first, second = (at.client.post("/batch-predictions", json=body, headers=headers) for _ in range(2))
    assert first.json() == second.json()
    assert at.client.post(f"/batch-predictions/{first.json()['id']}/cancel").status_code == 200


def test_a_data_set_that_was_predicted_stays(at: BatchSite) -> None:
    refused = at.client.delete(f"/datasets/{at.dataset}")
    assert refused.status_code == 409
    assert "batch prediction bat_" in refused.json()["detail"]


def events_of(client: httpx.Client, job: str, **headers: str) -> list[dict[str, Any]]:
    """All events of a stream, until it ends."""
    with client.stream("GET", f"/batch-predictions/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).split("\n\n")
    found = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if "data: " in block]
    return [event | {"data": json.loads(event["data"])} for event in found]


def test_events_tell_the_progress_until_the_end(at: BatchSite) -> None:
    job = at.begin(at.slow)
    with at.worker():
        events = events_of(at.client, job)
    assert [event["event"] for event in events] == ["progress"] * (len(events) - 1) + ["end"]
    done = [event["data"]["rows"]["done"] for event in events]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == SLOW_ROWS
    assert len(set(done)) > 3, done
    assert events[-1]["data"]["state"] == "succeeded"
    assert [event["event"] for event in events_of(at.client, job)] == ["end"]
    again = at.client.get(f"/batch-predictions/{job}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert again.status_code == 204


def test_streams_are_for_those_who_may_read_and_not_too_many(at: BatchSite) -> None:
    job = at.begin(at.dataset)
    path = f"/batch-predictions/{job}/events"
    foreign, missing = at.globex.get(path), at.globex.get(path.replace(job, "bat_0"))
    assert foreign.status_code == missing.status_code == 404
    assert foreign.text.replace(job, "?") == missing.text.replace("bat_0", "?")
    assert httpx.get(at.site.url + API + path).status_code == 401
    with at.client_of(make_key(at.site, "acme", "predict")) as predicting:
        assert predicting.get(path).status_code == 403
    assert at.client.post(path).status_code == 405
    with at.client.stream("GET", path), at.client.stream("GET", path):
        refused = at.client.get(path)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert at.client.get("/me").status_code == 200
    deadline = time.monotonic() + 5
    assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 200
    while at.client.get(path).status_code != 200:
        assert time.monotonic() < deadline, "a stream that was left is still counted"
        time.sleep(0.05)


def test_a_stream_ends_with_its_key(at: BatchSite) -> None:
    job = at.begin(at.dataset)
    with at.client_of(make_key(at.site, "acme")) as short, short.stream("GET", f"/batch-predictions/{job}/events") as s:
        pieces = s.iter_text()
        assert "progress" in next(pieces) + next(pieces)
        me = short.get("/me").json()["caller"]["id"]
        assert at.client.delete(f"/api-keys/{me}").status_code == 200
        revoked = time.monotonic()
        assert not "".join(pieces)
        assert time.monotonic() - revoked < 3
    assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 200


def test_a_stream_does_not_hold_up_the_servers_end(at: BatchSite) -> None:
    job = at.begin(at.dataset)
    other = at.site.spawn("-m", "aiaas_site.server", "--role", "web", "--port", str(port := free_port()))
    at.site.wait_until_ready(other, f"http://127.0.0.1:{port}")
    with httpx.stream(
        "GET", f"http://127.0.0.1:{port}{API}/batch-predictions/{job}/events", headers=at.client.headers
    ) as stream:
        pieces = stream.iter_text()
        next(pieces)
        other.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        list(pieces)
        assert other.wait(10) == 0
        assert time.monotonic() - asked < 5
    assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 200


TOLD = """
import json
from tenants import scoping
from tenants.models import Notice
with scoping.operator():
    rows = Notice.across_tenants.filter(kind="batch_prediction.ended").values_list("once", "data")
    print(json.dumps([[once, data] for once, data in rows]))
"""


def test_every_end_of_the_tests_before_was_told_of_once(at: BatchSite) -> None:
    listed = at.client.get("/batch-predictions", params={"limit": "200"}).json()["results"]
    told = at.site.python(TOLD)
    assert sorted(once for once, _ in told) == sorted(job["id"] for job in listed if ended(job))
    by_id = {job["id"]: job for job in listed}
    for once, data in told:
        job = by_id[once]
        assert data == {
            "job": once, "deployment": job["deployment"], "version": f"{job['model']}@{job['version']}",
        } | {name: job[name] for name in ("state", "rows", "error", "stop_reason")}  # fmt: skip


def test_foreign_is_missing(at: BatchSite) -> None:
    job = at.begin(at.dataset)
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/results"), ("GET", "/events")):
        assert at.globex.request(method, f"/batch-predictions/{job}{path}").status_code == 404
    assert at.globex.get("/batch-predictions").json()["results"] == []
    assert at.client.post(f"/batch-predictions/{job}/cancel").status_code == 200


def test_the_child_yields_and_has_no_secrets(at: BatchSite) -> None:
    with at.worker() as worker:
        job = at.begin(at.slow)
        at.wait(job, is_amid)
        (child,) = psutil.Process(worker.pid).children()
        assert child.nice() == 10
        assert not {"DATABASE_URL", "SECRET_KEY", "MANIFEST_KEY"} & child.environ().keys()
        at.client.post(f"/batch-predictions/{job}/cancel")
        at.wait(job, ended)
