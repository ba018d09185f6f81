"""Evaluations over HTTP, and the rules by which trainers share them; the process itself is in test_evaluation_child."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import evaluations
from modelhub.job_queue import Hold
from modelhub.models import Evaluation, ModelVersion
from tenants import scoping
from tenants.models import Notice, Plan
from tests.conftest import Account
from tests.modelhub import bright, zips
from tests.modelhub.calls import DATASETS, create, upload
from tests.modelhub.places import places
from tests.modelhub.test_training import billed, queued, surely_claimed

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

EVALUATIONS = "/api/v1/evaluations"
RESULT: dict[str, Any] = {
    "rows": 8,
    "metrics": {
        "accuracy": 0.875,
        "confusion_matrix": {"labels": ["bright", "<b>dark"], "rows_are": "truth", "matrix": [[3, 1], [0, 4]]},
    },
    "slices": {},
    "calibration": {
        "rows": 8,
        "ece": 0.1,
        "bins": [{"from": 0.7, "to": 0.8, "rows": 8, "confidence": 0.75, "accuracy": 0.85}],
    },
    "thresholds": None,
    "left_out": {"rows": 0, "first": []},
    "timing": {"rows": 8, "seconds": 2.0},
}
MISTAKES = [{"name": "a.jpg", "truth": "bright", "answer": "<script>", "confidence": 0.9, "picture": "aGVq"}]


@pytest.fixture
def version(acme: Account, tmp_path: Path) -> ModelVersion:
    return bright.published(acme, tmp_path)


def sealed(client: APIClient, name: str = "lights", **options: int) -> str:
    dataset = create(client, name)
    assert upload(client, dataset, zips.packed(bright.files(**options))).status_code == 200
    assert client.post(f"{DATASETS}/{dataset}/seal").status_code == 200
    return dataset


def post(client: APIClient, dataset: str, path: str = EVALUATIONS, **changes: Any) -> Any:
    return client.post(path, {"model": "light", "version": 1, "dataset": dataset} | changes, format="json")


def asked(client: APIClient, dataset: str | None = None, **changes: Any) -> str:
    answer = post(client, dataset or sealed(client), **changes)
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def shown(client: APIClient, evaluation: str) -> Any:
    answer = client.get(f"{EVALUATIONS}/{evaluation}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def claimed(trainer: str = "one") -> Hold | None:
    with scoping.operator():
        job = evaluations.QUEUE.claim(trainer=trainer, now=timezone.now())
        return None if job is None else evaluations.QUEUE.hold_of(job)


def done(hold: Hold | None, seconds: str = "5.5") -> None:
    assert hold is not None
    with scoping.operator():
        evaluations.succeed(
            hold=hold, seconds=Decimal(seconds), result=RESULT, mistakes=MISTAKES, now=timezone.now()
        )  # fmt: skip


def test_an_evaluation_waits_is_done_and_billed(acme: Account, acme_client: APIClient, version: ModelVersion) -> None:
    dataset = sealed(acme_client)
    evaluation = asked(acme_client, dataset, slices=["class"])
    found = shown(acme_client, evaluation)
    assert found["id"].startswith("evl_")
    assert (found["model"], found["version"], found["dataset"], found["split"]) == ("light", 1, dataset, "validation")
    assert (found["state"], found["slices"], found["result"], found["mistakes"]) == ("queued", ["class"], None, [])
    hold = claimed()
    assert shown(acme_client, evaluation)["state"] == "running"
    done(hold)
    found = shown(acme_client, evaluation)
    assert (found["state"], found["training_seconds"], found["result"]) == ("succeeded", 5.5, RESULT)
    assert found["mistakes"] == [{"name": "a.jpg", "truth": "bright", "answer": "<script>", "confidence": 0.9}]
    ((_, of, quantity),) = billed(acme)
    assert (of, quantity) == ("light@1", Decimal("5.5"))
    with scoping.operator():
        (notice,) = Notice.objects.for_tenant(acme.tenant).filter(kind="evaluation.ended")
    assert (notice.data["evaluation"], notice.data["state"], notice.data["version"]) == (
        evaluation,
        "succeeded",
        "light@1",
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": 2}, "version"),
        ({"model": "none"}, "version"),
        ({"split": "test"}, "split"),
        ({"slices": ["a", "a"]}, "slices"),
        ({"slices": list("abcdef")}, "slices"),
        ({"dataset": "ds_0"}, "dataset"),
        ({"budget": "0.000001"}, "budget"),
        ({"more": 1}, "more"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words(
    acme_client: APIClient, version: ModelVersion, changes: dict[str, Any], field: str
) -> None:
    dataset = sealed(acme_client)
    for path in (EVALUATIONS, f"{EVALUATIONS}/quote"):
        answer = post(acme_client, path=path, **{"dataset": dataset} | changes)
        assert answer.status_code == 400, answer.content
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert acme_client.get(EVALUATIONS).json()["results"] == []


def texts(client: APIClient) -> str:
    """A sealed data set of texts."""
    made = client.post("/api/v1/datasets", {"name": "words", "kind": "text-classification"}, format="json")
    path = f"/api/v1/datasets/{made.json()['id']}"
    rows = "".join(f"text {number} of them,{'odd' if number % 2 else 'even'}\n" for number in range(40))
    assert client.put(f"{path}/content", f"text,label\n{rows}", content_type="text/csv").status_code == 200
    assert client.post(f"{path}/seal").status_code == 200
    return str(made.json()["id"])


def test_a_data_set_of_another_kind_or_unsealed_is_refused(
    acme: Account, acme_client: APIClient, version: ModelVersion
) -> None:
    open_one = create(acme_client, "open")
    assert post(acme_client, open_one).status_code == 409
    refused = post(acme_client, texts(acme_client))
    assert refused.status_code == 400
    assert "takes image-classification; the data set words is text-classification" in refused.json()["detail"]


def test_anothers_version_and_data_set_are_not_there(
    acme_client: APIClient, globex_client: APIClient, version: ModelVersion
) -> None:
    dataset = sealed(acme_client)
    assert post(globex_client, dataset).status_code == 400
    evaluation = asked(acme_client, dataset)
    for path in ("", "/cancel", "/mistakes.svg"):
        ask = globex_client.post if path == "/cancel" else globex_client.get
        assert ask(f"{EVALUATIONS}/{evaluation}{path}").status_code == 404
    assert globex_client.get(EVALUATIONS).json()["results"] == []


def test_one_that_waits_is_cancelled_at_once_and_one_that_runs_by_its_trainer(
    acme: Account, acme_client: APIClient, version: ModelVersion
) -> None:
    dataset = sealed(acme_client)
    waits, runs = asked(acme_client, dataset), asked(acme_client, dataset)
    hold = claimed()
    assert hold is not None
    assert acme_client.post(f"{EVALUATIONS}/{runs}/cancel").status_code == 200
    assert acme_client.post(f"{EVALUATIONS}/{waits}/cancel").status_code == 202
    with scoping.operator():
        assert evaluations.QUEUE.renew(hold=hold, progress={})
        evaluations.QUEUE.cancelled(hold=hold, seconds=Decimal("1.5"), now=timezone.now())
    assert shown(acme_client, waits)["state"] == "cancelled"
    assert [quantity for *_, quantity in billed(acme)] == [Decimal("1.5")]


def test_one_whose_trainer_is_gone_is_taken_over(acme_client: APIClient, version: ModelVersion) -> None:
    evaluation = asked(acme_client)
    first = claimed("one")
    assert claimed("two") is None
    with scoping.operator():
        Evaluation.across_tenants.update(lease_until=timezone.now() - timedelta(seconds=1))
    second = claimed("two")
    assert (first and first.attempt, second and second.attempt) == (1, 2)
    done(second)
    assert shown(acme_client, evaluation)["attempt"] == 2


def test_too_many_may_not_wait(acme_client: APIClient, version: ModelVersion, settings: Settings) -> None:
    settings.TRAINING_MAX_QUEUED_JOBS = 1
    dataset = sealed(acme_client)
    asked(acme_client, dataset)
    refused = post(acme_client, dataset)
    assert refused.status_code == 429
    assert "1 evaluations of yours are waiting" in refused.json()["detail"]


def test_a_quote_expects_the_pace_of_the_last_one(acme_client: APIClient, version: ModelVersion) -> None:
    dataset = sealed(acme_client)
    quoted = post(acme_client, dataset, f"{EVALUATIONS}/quote").json()
    assert (quoted["at_most"]["quantity"], quoted["expected"]) == ("3600", None)
    asked(acme_client, dataset)
    done(claimed())
    quoted = post(acme_client, dataset, f"{EVALUATIONS}/quote", split="all", budget="0.50").json()
    # 3.5 seconds besides answering, and 14 rows at 4 a second.
    assert quoted["expected"]["quantity"] == "7"
    assert quoted["at_most"] == {"quantity": "2000", "amount": "0.50"}


def test_a_plan_counts_trainings_and_evaluations_together(
    acme: Account, acme_client: APIClient, version: ModelVersion
) -> None:
    Plan.objects.filter(pk="standard").update(training_jobs_at_once=1)
    dataset = sealed(acme_client)
    evaluation = asked(acme_client, dataset)
    queued(acme_client, dataset)
    surely_claimed()
    assert claimed() is None
    assert shown(acme_client, evaluation)["state"] == "queued"


@pytest.mark.parametrize(
    ("drawing", "words"),
    [
        ("confusion", "&lt;b&gt;dark"),
        ("reliability", "expected calibration error 0.100"),
        ("mistakes", "&lt;script&gt;"),
    ],
)
def test_what_was_found_is_drawn(
    acme_client: APIClient, version: ModelVersion, drawing: str, words: str, admin_client: Client
) -> None:
    evaluation = asked(acme_client)
    path = f"{EVALUATIONS}/{evaluation}/{drawing}.svg"
    assert acme_client.get(path).status_code == 404
    done(claimed())
    answer = acme_client.get(path)
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    text = answer.content.decode()
    assert words in text
    assert "<script" not in text
    assert acme_client.get(f"{EVALUATIONS}/{evaluation}/none.svg").status_code == 404
    page = admin_client.get(f"/admin/modelhub/evaluation/{evaluation}/change/")
    assert page.status_code == 200
    assert page.content.count(b"data:image/svg+xml;base64,") == 3
    assert b"8 rows were answered." in page.content
    assert admin_client.get("/admin/modelhub/evaluation/").status_code == 200


def test_an_operator_cancels(acme_client: APIClient, version: ModelVersion, admin_client: Client) -> None:
    evaluation = asked(acme_client)
    answer = admin_client.post(
        "/admin/modelhub/evaluation/", {"action": "cancel", "_selected_action": [evaluation]}, follow=True
    )
    assert b"1 cancelled." in answer.content
    assert shown(acme_client, evaluation)["state"] == "cancelled"
