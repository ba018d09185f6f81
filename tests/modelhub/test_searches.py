"""Searches over HTTP, and what they try."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import recipes, registry, search_space, training
from modelhub.models import TrainingJob
from modelhub.signatures import Signature
from tenants import scoping
from tenants.errors import Invalid
from tests.conftest import Account
from tests.modelhub.places import places
from tests.modelhub.test_training import JOBS, audited, sealed, surely_claimed
from tests.modelhub.test_training import shown as job_shown

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

# A machine that is busy takes its time.
QUICK = examples(max_examples=40, deadline=None)
SEARCHES = "/api/v1/searches"
PARAMETERS = recipes.get("image-classifier").parameters
GRID = {"learning_rate": [0.001, 0.01], "batch_size": [16, 32]}


def post(client: APIClient, dataset: str, path: str = SEARCHES, **changes: Any) -> Any:
    body = {
        "dataset": dataset,
        "model": "cats",
        "recipe": "image-classifier",
        "parameters": {"epochs": 1},
        "space": GRID,
    }
    return client.post(path, body | changes, format="json")


def asked(client: APIClient, dataset: str | None = None, **changes: Any) -> Any:
    answer = post(client, dataset or sealed(client), **changes)
    assert answer.status_code == 201, answer.content
    return answer.json()


def shown(client: APIClient, search: str) -> Any:
    answer = client.get(f"{SEARCHES}/{search}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def ended(account: Account, *, value: float | None, metric: str = "val_accuracy") -> str:
    """The next job of the queue makes a version whose best epoch had this value; without one it fails. Says its id."""
    hold = surely_claimed()
    now = timezone.now()
    with scoping.operator():
        if value is None:
            training.fail(hold=hold, error="No.", seconds=Decimal(1), now=now)
            return hold.job_id
        history = [{"epoch": 1, metric: value - 0.1}, {"epoch": 2, metric: value}, {"epoch": 3, metric: value - 0.2}]
        training.report(hold=hold, progress={}, history=history, lines=[])
        version = registry.publish(
            tenant_id=account.tenant.pk, model_name="cats", recipe="image-classifier", files={}, serving={},
            signature=Signature((), ()), preprocessing={}, labels=[], decision={}, metrics={}, parameters={},
            conversion={}, job=TrainingJob.objects.for_tenant(account.tenant).get(pk=hold.job_id), actor="t", now=now,
        )  # fmt: skip
        monitor = {"name": metric, "higher_is_better": True}
        training.succeed(hold=hold, seconds=Decimal(1), version=str(version), monitor=monitor, now=now)
    return hold.job_id


def test_a_grid_is_every_combination_as_ordinary_jobs(acme: Account, acme_client: APIClient) -> None:
    search = asked(acme_client)
    assert search["id"].startswith("sea_")
    assert (search["state"], search["counts"]["queued"], search["best"]) == ("queued", 4, None)
    assert [job["parameters"] for job in search["jobs"]] == [
        {"batch_size": size, "learning_rate": rate} for size in (16, 32) for rate in (0.001, 0.01)
    ]
    job = job_shown(acme_client, search["jobs"][3]["id"])
    assert (job["search"], job["model"], job["parameters"]["learning_rate"]) == (search["id"], "cats", 0.01)
    assert (job["parameters"]["epochs"], job["parameters"]["batch_size"]) == (1, 32)
    assert audited(acme) == ["training_job.create"] * 4
    assert acme_client.get(SEARCHES).json()["results"] == [search]


def test_the_best_is_the_one_whose_best_epoch_was_better_than_all_others(
    acme: Account, acme_client: APIClient, admin_client: Client
) -> None:
    search = asked(acme_client)["id"]
    ended(acme, value=0.7)
    assert shown(acme_client, search)["state"] == "running"
    best = ended(acme, value=0.9)
    ended(acme, value=0.8)
    ended(acme, value=None)
    found = shown(acme_client, search)
    assert (found["state"], found["counts"]["succeeded"], found["counts"]["failed"]) == ("succeeded", 3, 1)
    job = job_shown(acme_client, best)
    assert found["best"] == {
        "job": best,
        "version": job["version"]["number"],
        "version_id": job["version"]["id"],
        "metric": "val_accuracy",
        "value": 0.9,
        "higher_is_better": True,
        "parameters": {"batch_size": 16, "learning_rate": 0.01},
    }
    page = admin_client.get(f"/admin/modelhub/search/{search}/change/").content.decode()
    assert "succeeded (3 succeeded, 1 failed)" in page
    assert "val_accuracy 0.9 with batch_size = 16, learning_rate = 0.01" in page
    assert admin_client.get("/admin/modelhub/search/").status_code == 200


def test_a_search_of_which_none_succeeded_has_failed(acme: Account, acme_client: APIClient) -> None:
    search = asked(acme_client, space={"batch_size": [16]})["id"]
    ended(acme, value=None)
    found = shown(acme_client, search)
    assert (found["state"], found["best"]) == ("failed", None)


def test_cancelling_cancels_those_under_way_and_keeps_what_succeeded(acme: Account, acme_client: APIClient) -> None:
    search = asked(acme_client)["id"]
    best = ended(acme, value=0.7)
    runs = surely_claimed().job_id
    answer = acme_client.post(f"{SEARCHES}/{search}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    counts = answer.json()["counts"]
    assert (counts["succeeded"], counts["running"], counts["cancelled"]) == (1, 1, 2)
    assert job_shown(acme_client, runs)["cancel_requested_at"] is not None
    assert acme_client.post(f"{SEARCHES}/{search}/cancel").status_code == 202
    assert shown(acme_client, search)["best"]["job"] == best


def test_one_that_has_ended_cannot_be_cancelled(acme: Account, acme_client: APIClient) -> None:
    search = asked(acme_client, space={"batch_size": [16]})["id"]
    ended(acme, value=0.5)
    assert acme_client.post(f"{SEARCHES}/{search}/cancel").status_code == 409


def test_the_budget_is_shared_out_and_no_more_than_the_whole(acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    search = asked(acme_client, dataset, budget="1.00", space={"batch_size": [8, 16, 32]})
    assert search["budget"] == {"amount": "1.00", "currency": "EUR"}
    each = [job_shown(acme_client, job["id"])["budget"]["amount"] for job in search["jobs"]]
    assert each == ["0.33"] * 3
    refused = post(acme_client, dataset, budget="0.01", space={"batch_size": list(range(1, 20))})
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == ["budget"]


def test_a_quote_is_for_all_trainings(acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    quoted = post(acme_client, dataset, f"{SEARCHES}/quote").json()
    assert quoted["at_most"] == {"quantity": "14400", "amount": "3.60"}
    assert "4 jobs of 3600 seconds at most each; one that fails is not billed." in quoted["assumes"]
    quoted = post(acme_client, dataset, f"{SEARCHES}/quote", budget="0.40").json()
    assert quoted["at_most"] == {"quantity": "1600", "amount": "0.40"}
    assert acme_client.get(SEARCHES).json()["results"] == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"space": {}}, "space"),
        ({"space": {"depth": [1]}}, "space.depth"),
        ({"space": {"batch_size": []}}, "space.batch_size"),
        ({"space": {"batch_size": [0]}}, "space.batch_size"),
        ({"space": {"batch_size": {"from": 1, "to": 9}}}, "space.batch_size"),
        ({"space": {"batch_size": list(range(1, 22))}}, "space"),
        ({"jobs": 3}, "space"),
        ({"method": "random"}, "jobs"),
        ({"method": "random", "jobs": 21}, "jobs"),
        ({"method": "random", "jobs": 5}, "space"),
        ({"method": "random", "jobs": 2, "space": {"batch_size": {"from": 9, "to": 1}}}, "space.batch_size"),
        ({"method": "random", "jobs": 2, "space": {"batch_size": {"from": 0, "to": 9}}}, "space.batch_size"),
        ({"method": "random", "jobs": 2, "space": {"batch_size": {"from": True, "to": 9}}}, "space.batch_size"),
        ({"method": "random", "jobs": 2, "space": {"architecture": {"from": 1, "to": 2}}}, "space.architecture"),
        ({"method": "random", "jobs": 2, "space": {"batch_size": {"from": 1, "to": 9, "log": 1}}}, "space.batch_size"),
        ({"method": "best"}, "method"),
        ({"parameters": {"epochs": 0}}, "parameters.epochs"),
        ({"recipe": "none"}, "recipe"),
        ({"model": "/"}, "model"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_words(acme_client: APIClient, changes: dict[str, Any], field: str) -> None:
    dataset = sealed(acme_client)
    for path in (SEARCHES, f"{SEARCHES}/quote"):
        answer = post(acme_client, dataset, path, **changes)
        assert answer.status_code == 400, answer.content
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert acme_client.get(JOBS).json()["results"] == []


def test_there_must_be_room_for_all_or_none_waits(acme_client: APIClient, settings: Settings) -> None:
    settings.TRAINING_MAX_QUEUED_JOBS = 5
    dataset = sealed(acme_client)
    asked(acme_client, dataset)
    refused = post(acme_client, dataset)
    assert refused.status_code == 429
    assert (
        "The search has 4 trainings, and 4 training jobs of yours are waiting already; 5 may."
        in refused.json()["detail"]
    )
    assert len(acme_client.get(JOBS).json()["results"]) == 4


def test_anothers_search_is_not_there(acme_client: APIClient, globex_client: APIClient) -> None:
    search = asked(acme_client)["id"]
    assert globex_client.get(f"{SEARCHES}/{search}").status_code == 404
    assert globex_client.post(f"{SEARCHES}/{search}/cancel").status_code == 404
    assert globex_client.get(SEARCHES).json()["results"] == []


RANGES = {
    "learning_rate": {"from": 1e-4, "to": 1e-1, "log": True},
    "batch_size": {"from": 2, "to": 64},
    "schedule": ["constant", "cosine"],
}


@QUICK
@given(seed=st.integers(0, 2**31 - 1), jobs=st.integers(1, 20))
def test_what_is_drawn_lies_in_the_space_differs_and_is_the_same_again(seed: int, jobs: int) -> None:
    def drawn() -> list[dict[str, Any]]:
        return search_space.points(
            space=RANGES, method="random", jobs=jobs, seed=seed, parameters=PARAMETERS, most=20
        )  # fmt: skip

    points = drawn()
    assert len(points) == jobs
    assert points == drawn()
    for place, point in enumerate(points):
        assert 1e-4 <= point["learning_rate"] <= 1e-1
        assert isinstance(point["batch_size"], int)
        assert 2 <= point["batch_size"] <= 64
        assert point["schedule"] in ("constant", "cosine")
        assert point not in points[:place]


def test_a_logarithmic_range_is_drawn_evenly_by_order_of_magnitude() -> None:
    found = [
        search_space.points(
            space={"learning_rate": RANGES["learning_rate"]}, method="random", jobs=20, seed=seed,
            parameters=PARAMETERS, most=20,
        )
        for seed in range(10)
    ]  # fmt: skip
    small = sum(point["learning_rate"] < 1e-3 for points in found for point in points)
    assert 40 < small < 95  # a third of 200; drawn evenly by value, two of them would be


def test_a_space_of_too_few_different_points_says_how_many_there_are() -> None:
    with pytest.raises(Invalid, match="Only 2 different trainings could be drawn"):
        search_space.points(
            space={"batch_size": [1, 2]}, method="random", jobs=3, seed=0, parameters=PARAMETERS, most=20
        )
