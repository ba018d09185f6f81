"""Budgets and quotes of batch predictions with real workers, and that all that is used is metered."""

import contextlib
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psutil
import pytest

from tests.inference.test_batch_predictions import BatchSite, at, ended, events_of, is_amid
from tests.modelhub import zips

__all__ = ["at"]

# 0.50 for each answered row, so that small budgets end amid small data sets.
PRICE = """
from datetime import date
from decimal import Decimal
from tenants.models import Price
Price.objects.filter(plan="standard", meter="batch_predictions").update(amount=Decimal({amount!r}), per=Decimal(1))
print(0)
"""


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """A process and its children stand still meanwhile."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@pytest.fixture
def dear(at: BatchSite) -> Iterator[None]:
    at.site.python(PRICE.format(amount="0.50"))
    yield
    at.site.python(PRICE.format(amount="0.0003"))


@pytest.mark.usefixtures("dear")
def test_a_batch_stops_after_the_rows_that_its_budget_pays(at: BatchSite) -> None:
    before = at.billed()
    with at.worker():
        job = at.wait(at.begin(at.dataset, budget="2.60"), ended)
    assert job["state"] == "stopped", job
    assert job["budget"] == {"amount": "2.60", "currency": "EUR"}
    assert job["rows"] == {"total": 16, "done": 5, "failed": 0}
    assert job["stop_reason"] == (
        "The budget of 2.60 EUR pays for 5 answered rows; the job was stopped after 5 of 16 rows, and their results "
        "are kept."
    )
    lines = at.lines(job["id"])
    assert [line["item"] for line in lines] == sorted(at.pictures)[:5]
    assert all("prediction" in line for line in lines)
    assert at.billed() - before == 5
    assert at.left_behind() == []
    refused = at.client.post(f"/batch-predictions/{job['id']}/cancel")
    assert (refused.status_code, "has stopped already" in refused.json()["detail"]) == (409, True)
    (event,) = events_of(at.client, job["id"])
    assert (event["event"], event["data"]["state"]) == ("end", "stopped")


@pytest.mark.usefixtures("dear")
def test_rows_that_fail_take_nothing_from_the_budget(at: BatchSite) -> None:
    before = at.billed()
    broken = {f"train/cat/{name}.jpg": zips.picture(number, height=90) for number, name in enumerate(("-a", "00"))}
    mixed = at.sealed("broken", zips.good(train=2, validation=1, first=90) | broken)
    with at.worker(PICTURE_MAX_PIXELS="500"):
        job = at.wait(at.begin(mixed, budget="1.00"), ended)
    assert (job["state"], job["rows"]["failed"]) == ("stopped", 2)
    assert ["error" in line for line in at.lines(job["id"])] == [True, False, True, False]
    assert at.billed() - before == 2


@pytest.mark.usefixtures("dear")
def test_a_budget_that_pays_for_all_changes_nothing(at: BatchSite) -> None:
    with at.worker():
        job = at.wait(at.begin(at.dataset, budget="8.00"), ended)
    assert (job["state"], job["rows"]["done"], job["stop_reason"]) == ("succeeded", 16, None)


@pytest.mark.usefixtures("dear")
def test_a_budget_holds_over_a_workers_death(at: BatchSite) -> None:
    before = at.billed()
    with at.worker() as first:
        job = at.begin(at.slow, budget="50.00")
        at.wait(job, is_amid)
        first.kill()
        first.wait()
    with at.worker():
        found = at.wait(job, ended)
    assert (found["state"], found["rows"]["done"], found["attempt"]) == ("stopped", 100, 2)
    assert len(at.lines(job)) == at.billed() - before == 100


@pytest.mark.usefixtures("dear")
def test_a_price_that_rises_before_the_end_does_not_pass_the_budget(at: BatchSite) -> None:
    before = at.billed()
    with at.worker() as worker:
        job = at.begin(at.slow, budget="60.00")
        at.wait(job, is_amid)
        with suspended(worker.pid):  # else a quick machine is done before the price is another
            at.site.python(PRICE.format(amount="10"))
        found = at.wait(job, ended)
    assert (found["state"], found["rows"]["done"]) == ("stopped", 120)
    assert at.billed() - before == 6


@pytest.mark.usefixtures("dear")
def test_a_quote_is_what_all_rows_cost_and_makes_nothing(at: BatchSite) -> None:
    def quoted(**more: str) -> Any:
        body = {"deployment": "cats", "dataset": at.dataset} | more
        answer = at.client.post("/batch-predictions/quote", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    known = at.client.get("/batch-predictions", params={"limit": "200"}).json()["results"]
    whole = quoted()
    assert (whole["currency"], whole["meter"]) == ("EUR", "batch_predictions")
    assert whole["at_most"] == whole["expected"] == {"quantity": "16", "amount": "8.00"}
    assert whole["assumes"] == [
        "All 16 rows of the data set are answered; those that fail are not billed.",
        "The price of now, 0.5 EUR per 1,000 batch predictions, holds until it is done.",
    ]
    assert quoted(budget="1.70")["at_most"] == {"quantity": "3", "amount": "1.50"}
    assert at.client.get("/batch-predictions", params={"limit": "200"}).json()["results"] == known


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("budget", ["0.49", "0", "-1", "NaN", "Infinity", "1e30", "1.005", "lots"])
@pytest.mark.parametrize("path", ["/batch-predictions", "/batch-predictions/quote"])
def test_a_budget_that_is_none_is_refused_in_words(at: BatchSite, path: str, budget: str) -> None:
    body = {"deployment": "cats", "dataset": at.dataset, "budget": budget}
    refused = at.client.post(path, json=body)
    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (400, ["budget"])
    assert "Expected" in refused.json()["detail"]


def test_all_that_is_metered_is_in_the_report(at: BatchSite) -> None:
    """Training seconds are in that of `tests/modelhub/test_trainer.py`."""
    picture = next(iter(at.pictures.values()))
    trainer = at.site.start_trainer(STORAGE_ACCRUAL_SECONDS="0.2")
    with at.worker():
        headers = {"Content-Type": "image/jpeg"}
        assert at.client.post("/deployments/cats/predict", content=picture, headers=headers).status_code == 200
        assert at.wait(at.begin(at.dataset), ended)["state"] == "succeeded"
        deadline = time.monotonic() + 60
        query = {"bucket_width": "month", "group_by": "deployment,model,version"}
        while True:
            rows = at.client.get("/usage", params=query).json()["results"]
            found = {row["meter"]: row for row in rows if row["deployment"] in ("cats", "")}
            if len(found) == 6:
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(20) == 0
    of_cats = {"requests", "predictions", "compute_ms", "input_bytes", "batch_predictions"}
    assert found.keys() == {*of_cats, "stored_byte_hours"}
    assert {(found[meter]["model"], found[meter]["version"]) for meter in of_cats} == {("cats", "cats@1")}
    assert Decimal(found["input_bytes"]["quantity"]) >= len(picture)
    assert all(Decimal(row["quantity"]) > 0 for row in found.values())
