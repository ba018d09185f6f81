"""What a training may cost and will cost, and how its end is told; the trainer's side is in `test_trainer.py`."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from rest_framework.test import APIClient

from modelhub import training
from modelhub.models import TrainingJob
from tenants import scoping
from tenants.models import Notice, Price
from tests.conftest import Account
from tests.modelhub.places import places
from tests.modelhub.test_training import (
    JOBS,
    billed,
    claimed,
    let_lease_run_out,
    post,
    queued,
    sealed,
    shown,
    surely_claimed,
    wanted,
)

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUOTE = f"{JOBS}/quote"


def quoted(client: APIClient, body: dict[str, Any]) -> Any:
    answer = client.post(QUOTE, body, format="json")
    assert answer.status_code == 200, answer.content
    return answer.json()


def notices(account: Account) -> list[dict[str, Any]]:
    with scoping.operator():
        rows = Notice.objects.for_tenant(account.tenant).filter(kind="training_job.ended").order_by("created_at")
        assert all(row.once == row.data["job"] for row in rows)
        return [row.data for row in rows]


def test_a_quote_is_the_longest_that_a_job_may_take_and_makes_nothing(acme_client: APIClient) -> None:
    found = quoted(acme_client, wanted(sealed(acme_client)))
    assert found == {
        "currency": "EUR",
        "meter": "training_seconds",
        "price": {"amount": "0.9", "per": "3600", "unit": "training hour"},
        "at_most": {"quantity": "3600", "amount": "0.90"},
        "expected": None,
        "assumes": [
            "A job takes 3600 seconds at most, and one that fails is not billed.",
            "There is no expected figure before a first job of this recipe has succeeded.",
            "The price of now, 0.9 EUR per training hour, holds until it is done.",
        ],
    }
    assert acme_client.get(JOBS).json()["results"] == []


def test_a_quote_expects_the_pace_of_the_last_job(acme_client: APIClient, globex_client: APIClient) -> None:
    dataset = sealed(acme_client, train=20)
    job, hold = queued(acme_client, dataset), surely_claimed()
    epochs = [{"epoch": n, "seconds": 2.0, "rows_per_second": 100.0} for n in (1, 2)]
    with scoping.operator():
        training.report(hold=hold, progress={}, history=epochs, lines=[])
        training.succeed(hold=hold, seconds=Decimal("14.5"), version="cats@1", now=NOW)
    found = quoted(acme_client, wanted(dataset, parameters={"epochs": 10, "steps_per_epoch": 5}))
    # 10.5 seconds besides training, and 10 epochs of 5 batches of 32 at 100 rows a second.
    assert found["expected"] == {"quantity": "26.5", "amount": "0.01"}
    assert f"1600 rows are expected to be trained at the pace of the job {job}." in found["assumes"]
    assert quoted(acme_client, wanted(dataset, parameters={"epochs": 3}))["expected"]["quantity"] == "11.7"
    assert quoted(globex_client, wanted(sealed(globex_client)))["expected"] is None


def test_a_quote_with_a_budget_costs_no_more_than_it(acme_client: APIClient) -> None:
    found = quoted(acme_client, wanted(sealed(acme_client), budget="0.50"))
    assert found["at_most"] == {"quantity": "2000", "amount": "0.50"}
    assert "It is stopped within the 2000.000 seconds that its budget of 0.50 EUR pays." in found["assumes"]
    large = quoted(acme_client, wanted(sealed(acme_client, "more", first=90), budget="50"))
    assert large["at_most"] == {"quantity": "3600", "amount": "0.90"}


@pytest.mark.parametrize("path", [JOBS, QUOTE])
@pytest.mark.parametrize(
    "budget", [0, -1, "-0.01", "NaN", "Infinity", 1e300, "1e400", "0.001", "0.001e1", True, [], "a lot", "9" * 2000]
)
def test_a_budget_that_is_none_is_refused_in_words(acme_client: APIClient, path: str, budget: Any) -> None:
    if budget == "0.001e1":
        Price.objects.filter(meter="training_seconds").update(amount=9, per=1)  # which does not pay for ten seconds
    refused = acme_client.post(path, wanted(sealed(acme_client), budget=budget), format="json")
    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (400, ["budget"])
    assert "Expected" in refused.json()["detail"]
    assert acme_client.get(JOBS).json()["results"] == []


@pytest.mark.parametrize(
    ("changes", "status"), [({"recipe": "none"}, 400), ({"dataset": "ds_0"}, 400), ({"parameters": {"epochs": 0}}, 400)]
)
def test_a_quote_refuses_what_making_it_refuses(acme_client: APIClient, changes: dict[str, Any], status: int) -> None:
    body = wanted(sealed(acme_client)) | changes
    asked, made = acme_client.post(QUOTE, body, format="json"), post(acme_client, body)
    assert asked.status_code == made.status_code == status
    assert asked.json() == made.json()


def test_a_job_says_its_budget(acme_client: APIClient) -> None:
    job = shown(acme_client, queued(acme_client, budget=1.5))
    assert (job["budget"], job["stop_reason"]) == ({"amount": "1.50", "currency": "EUR"}, None)
    assert shown(acme_client, queued(acme_client, sealed(acme_client, "more", first=90)))["budget"] is None


def test_the_table_holds_no_budget_that_is_none(acme_client: APIClient) -> None:
    job = queued(acme_client, budget="1.50")
    for values in ({"budget": -1}, {"budget": 0}, {"budget_currency": ""}, {"budget": None}):
        with pytest.raises(IntegrityError, match="job_budget_is_money"), transaction.atomic(), scoping.operator():
            TrainingJob.across_tenants.filter(pk=job).update(**values)


@pytest.mark.parametrize("how", ["succeeded", "cancelled"])
def test_no_more_seconds_are_billed_than_the_budget_pays(acme: Account, acme_client: APIClient, how: str) -> None:
    """Whatever the clock of the trainer says, and whatever the price has become."""
    job, hold = queued(acme_client, budget="0.01"), surely_claimed()
    with scoping.operator():
        row = TrainingJob.across_tenants.select_related("tenant__plan").get(pk=job)
        assert training.paid_seconds(job=row, now=NOW) == 40
        Price.objects.create(
            plan_id="standard", meter="training_seconds", valid_from=NOW.date() + timedelta(days=1), amount=1, per=900,
            unit="quarter",
        )  # fmt: skip
        end = NOW + timedelta(days=1)
        if how == "succeeded":
            training.succeed(hold=hold, seconds=Decimal("39.5"), version="cats@1", now=end)
        else:
            training.cancelled(hold=hold, seconds=Decimal("39.5"), now=end)
    assert [quantity for _, _, quantity in billed(acme)] == [9]
    assert shown(acme_client, job)["training_seconds"] == 39.5


def test_every_end_is_told_of_once(acme: Account, acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    waiting = queued(acme_client, dataset)
    for _ in range(2):
        acme_client.post(f"{JOBS}/{waiting}/cancel")
    done, failed, cancelled = (queued(acme_client, dataset) for _ in range(3))
    with scoping.operator():
        training.succeed(
            hold=surely_claimed(), seconds=Decimal(1), version="cats@1", stop_reason="It was late.", now=NOW
        )
        training.fail(hold=surely_claimed(), error="It rained.", seconds=Decimal(1), now=NOW)
    assert acme_client.post(f"{JOBS}/{cancelled}/cancel").json()["state"] == "cancelled"
    lost, unwanted = queued(acme_client, dataset), queued(acme_client, dataset)
    for _ in range(3):
        assert surely_claimed().job_id == lost
        let_lease_run_out()
    assert surely_claimed().job_id == unwanted
    acme_client.post(f"{JOBS}/{unwanted}/cancel")
    let_lease_run_out()
    assert claimed() is None
    running = queued(acme_client, dataset)
    hold = surely_claimed()
    assert acme_client.post(f"{JOBS}/{running}/cancel").status_code == 202
    with scoping.operator():
        training.cancelled(hold=hold, seconds=Decimal(1), now=NOW)
    told = {notice["job"]: notice for notice in notices(acme)}
    assert {job: notice["state"] for job, notice in told.items()} == {
        waiting: "cancelled", done: "succeeded", failed: "failed", cancelled: "cancelled", lost: "failed",
        unwanted: "cancelled", running: "cancelled",
    }  # fmt: skip
    assert len(notices(acme)) == 7
    assert told[done] == {
        "job": done, "state": "succeeded", "model": "cats", "version": "cats@1", "error": None,
        "stop_reason": "It was late.",
    }  # fmt: skip
    assert told[failed]["error"] == "It rained."
    assert "3 times" in told[lost]["error"]


def test_a_job_that_is_put_back_has_not_ended(acme: Account, acme_client: APIClient) -> None:
    queued(acme_client)
    with scoping.operator():
        training.put_back(hold=surely_claimed())
    assert notices(acme) == []
