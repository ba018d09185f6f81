"""Training jobs over HTTP, and the rules by which trainers share them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import training
from modelhub.models import Dataset, JobState, TrainingJob
from modelhub.training import Hold, LeaseLost
from tenants import scoping
from tenants.models import AuditEvent, UsageHour
from tests.conftest import Account
from tests.modelhub.calls import DATASETS, filled
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

JOBS = "/api/v1/training-jobs"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def sealed(client: APIClient, name: str = "pets", **options: Any) -> str:
    dataset = filled(client, name, **options)
    assert client.post(f"{DATASETS}/{dataset}/seal").status_code == 200
    return dataset


def wanted(dataset: str, **changes: Any) -> dict[str, Any]:
    return {"dataset": dataset, "model": "cats", "recipe": "image-classifier", "parameters": {"epochs": 1}} | changes


def post(client: APIClient, body: Any, **headers: str) -> Any:
    return client.post(JOBS, body, format="json", headers=headers)


def queued(client: APIClient, dataset: str | None = None, **changes: Any) -> str:
    answer = post(client, wanted(dataset or sealed(client), **changes))
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def shown(client: APIClient, job: str) -> Any:
    answer = client.get(f"{JOBS}/{job}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def claimed(trainer: str = "one") -> Hold | None:
    with scoping.operator():
        job = training.claim(trainer=trainer, now=timezone.now())
        return None if job is None else training.hold_of(job)


def surely_claimed(trainer: str = "one") -> Hold:
    hold = claimed(trainer)
    assert hold is not None
    return hold


def let_lease_run_out() -> None:
    with scoping.operator():
        TrainingJob.across_tenants.filter(state="running").update(lease_until=timezone.now() - timedelta(seconds=1))


def audited(account: Account) -> list[str]:
    with scoping.operator():
        rows = AuditEvent.objects.for_tenant(account.tenant).order_by("id").values_list("verb", flat=True)
        return [verb for verb in rows if verb.startswith("training_job.")]


def billed(account: Account) -> list[tuple[str, str, Decimal]]:
    with scoping.operator():
        rows = UsageHour.objects.for_tenant(account.tenant).filter(meter="training_seconds")
        return [(row.key, row.version, row.quantity) for row in rows]


def test_the_recipes_tell_what_each_parameter_may_be(acme_client: APIClient) -> None:
    recipes = acme_client.get("/api/v1/recipes").json()["results"]
    (recipe,) = [one for one in recipes if one["name"] == "image-classifier"]
    assert recipe["dataset_kind"] == "image-classification"
    assert recipe["parameters"][1] == {
        "name": "epochs",
        "type": "integer",
        "help": "How often to go through the training split.",
        "default": 5,
        "defaults": {"convnet": 80},
        "minimum": 1,
        "maximum": 1000,
        "choices": [],
    }


def test_a_job_waits_with_all_its_parameters(acme: Account, acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    job = shown(acme_client, queued(acme_client, dataset, parameters={"epochs": 2, "steps_per_epoch": 3}))
    assert job["id"].startswith("job_")
    assert job["created_at"].endswith("Z")
    given = {"architecture": "seed-cnn", "epochs": 2, "steps_per_epoch": 3, "seed": 0, "schedule": "constant"}
    assert given.items() <= job["parameters"].items()
    expected: dict[str, Any] = {
        "dataset": dataset,
        "model": "cats",
        "recipe": "image-classifier",
        "state": "queued",
        "progress": {},
        "metrics": [],
        "error": None,
        "version": None,
        "training_seconds": None,
        "started_at": None,
        "finished_at": None,
    }
    assert {name: job[name] for name in expected} == expected
    assert audited(acme) == ["training_job.create"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"recipe": "translation"}, "recipe"),
        ({"recipe": None}, "recipe"),
        ({"model": "cats/1"}, "model"),
        ({"model": ""}, "model"),
        ({"model": ".."}, "model"),
        ({"model": "x" * 61}, "model"),
        ({"model": "кот"}, "model"),
        ({"model": {}}, "model"),
        ({"parameters": {"epochs": 0}}, "parameters.epochs"),
        ({"parameters": {"epochs": 10**30}}, "parameters.epochs"),
        ({"parameters": {"epochs": "many"}}, "parameters.epochs"),
        ({"parameters": {"steps_per_epoch": -1}}, "parameters.steps_per_epoch"),
        ({"parameters": {"layers": 3}}, "parameters.layers"),
        ({"parameters": {"architecture": "vgg"}}, "parameters.architecture"),
        ({"parameters": []}, "parameters"),
        ({"parameters": "fast"}, "parameters"),
        ({"dataset": "ds_00000000000000000000000000"}, "dataset"),
        ({"dataset": "../etc"}, "dataset"),
        ({"dataset": 7}, "dataset"),
        ({"price": 0}, "price"),
    ],
)
def test_a_field_that_is_wrong_is_named(acme_client: APIClient, changes: dict[str, Any], field: str) -> None:
    answer = post(acme_client, wanted(sealed(acme_client)) | changes)
    assert answer.status_code == 400, answer.content
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert acme_client.get(JOBS).json()["results"] == []


@pytest.mark.parametrize("body", [b'{"dataset": ', b"[]", b'{"dataset": NaN}', b"", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(acme_client: APIClient, body: bytes) -> None:
    answer = acme_client.post(JOBS, data=body, content_type="application/json")
    assert answer.status_code == 400


def test_a_data_set_that_is_not_sealed_is_not_trained_on(acme_client: APIClient) -> None:
    answer = post(acme_client, wanted(filled(acme_client)))
    assert answer.status_code == 409
    assert "seal" in answer.json()["detail"]


def test_three_classes_may_be_learned(acme_client: APIClient) -> None:
    assert post(acme_client, wanted(sealed(acme_client, classes=("cat", "dog", "owl")))).status_code == 201


def test_what_is_anothers_is_as_if_it_were_not_there(acme_client: APIClient, globex_client: APIClient) -> None:
    dataset = sealed(acme_client)
    job = queued(acme_client, dataset)
    missing = "job_00000000000000000000000000"
    calls: list[Callable[[APIClient, str], Any]] = [
        lambda client, job: client.get(f"{JOBS}/{job}"),
        lambda client, job: client.post(f"{JOBS}/{job}/cancel"),
        lambda client, job: client.get(f"{JOBS}/{job}/logs"),
    ]
    for call in calls:
        foreign, nobodys = call(globex_client, job), call(globex_client, missing)
        assert foreign.status_code == nobodys.status_code == 404
        assert foreign.json()["detail"].replace(job, missing) == nobodys.json()["detail"]
    foreign = post(globex_client, wanted(dataset))
    assert (foreign.status_code, foreign.json()["errors"][0]["field"]) == (400, "dataset")
    assert globex_client.get(JOBS).json()["results"] == []
    assert shown(acme_client, job)["state"] == "queued"


def test_the_same_idempotency_key_queues_one_job(acme_client: APIClient) -> None:
    body = wanted(sealed(acme_client))
    answers = [post(acme_client, body, **{"Idempotency-Key": "once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert len(acme_client.get(JOBS).json()["results"]) == 1


def test_jobs_are_listed_newest_first_and_filtered(acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    first, second = queued(acme_client, dataset), queued(acme_client, dataset, model="lions")
    acme_client.post(f"{JOBS}/{first}/cancel")

    def found(**query: str) -> list[str]:
        return [row["id"] for row in acme_client.get(JOBS, query).json()["results"]]

    assert found() == [second, first]
    assert found(state="cancelled") == found(model="cats") == [first]
    assert found(state="queued") == found(model="lions") == [second]
    assert found(dataset="ds_other") == []
    page = acme_client.get(JOBS, {"limit": "1"}).json()
    assert [row["id"] for row in acme_client.get(page["next"]).json()["results"]] == [first]
    for query in ({"state": "lost"}, {"colour": "red"}, {"limit": "0"}):
        assert acme_client.get(JOBS, query).status_code == 400


def test_only_so_many_jobs_may_wait(acme_client: APIClient, settings: Settings) -> None:
    settings.TRAINING_MAX_QUEUED_JOBS = 1
    dataset = sealed(acme_client)
    queued(acme_client, dataset)
    answer = post(acme_client, wanted(dataset))
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


def test_a_job_that_waits_is_cancelled_at_once_and_for_nothing(acme: Account, acme_client: APIClient) -> None:
    job = queued(acme_client)
    for _ in range(2):
        answer = acme_client.post(f"{JOBS}/{job}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert claimed() is None
    assert billed(acme) == []
    assert audited(acme) == ["training_job.create", "training_job.cancel"]


def test_a_running_job_is_asked_to_stop_and_its_trainer_told(acme: Account, acme_client: APIClient) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    with scoping.operator():
        assert not training.report(hold=hold, progress={}, history=[], lines=[])
    answer = acme_client.post(f"{JOBS}/{job}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    with scoping.operator():
        assert training.report(hold=hold, progress={}, history=[], lines=[])
        training.cancelled(hold=hold, seconds=Decimal("2.5"), now=NOW)
    ended = shown(acme_client, job)
    assert (ended["state"], ended["training_seconds"]) == ("cancelled", 2.5)
    ((key, version, quantity),) = billed(acme)
    assert key.startswith("key_")
    assert (version, quantity) == ("", Decimal("2.5"))


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_job_that_has_ended_cannot_be_cancelled(acme_client: APIClient, state: str) -> None:
    job = queued(acme_client)
    with scoping.operator():
        TrainingJob.across_tenants.update(state=state)
    answer = acme_client.post(f"{JOBS}/{job}/cancel")
    assert answer.status_code == 409
    assert state in answer.json()["detail"]


def test_the_log_is_read_line_by_line(acme_client: APIClient) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    with scoping.operator():
        lines = [(number, NOW, f"line {number}") for number in range(1, 6)]
        training.report(hold=hold, progress={}, history=[], lines=lines[:3])
        training.report(hold=hold, progress={}, history=[], lines=lines[2:])  # the third was written, its answer lost
        assert training.last_line(hold=hold) == 5
    path = f"{JOBS}/{job}/logs"
    assert [line["number"] for line in acme_client.get(path).json()["results"]] == [1, 2, 3, 4, 5]
    page = acme_client.get(path, {"after": "1", "limit": "2"}).json()
    assert [line["text"] for line in page["results"]] == ["line 2", "line 3"]
    assert [line["text"] for line in acme_client.get(page["next"]).json()["results"]] == ["line 4", "line 5"]
    assert acme_client.get(path, {"after": "5"}).json() == {"next": None, "results": []}
    for query in ({"after": "-1"}, {"after": "x"}, {"limit": "0"}, {"limit": "9999"}, {"before": "1"}):
        assert acme_client.get(path, query).status_code == 400


def test_progress_and_metrics_are_seen_while_it_runs(acme_client: APIClient) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    progress = {"phase": "training", "done": 3, "total": 9, "epoch": 2, "epochs": 5}
    epoch = {
        "epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": 0.6, "val_accuracy": 0.5, "seconds": 1.5,
        "rows_per_second": 300.0,
    }  # fmt: skip
    with scoping.operator():
        training.report(hold=hold, progress=progress, history=[epoch], lines=[])
    seen = shown(acme_client, job)
    assert (seen["state"], seen["progress"], seen["metrics"]) == ("running", progress, [epoch])


def test_a_job_is_given_to_one_trainer(acme_client: APIClient) -> None:
    job = queued(acme_client)
    hold = surely_claimed("one")
    assert (hold.job_id, hold.attempt) == (job, 1)
    assert claimed("two") is None


def test_a_dead_trainers_job_is_taken_over_and_its_reports_change_nothing(
    acme: Account, acme_client: APIClient
) -> None:
    job = queued(acme_client)
    first = surely_claimed("one")
    let_lease_run_out()
    second = surely_claimed("two")
    assert (second.job_id, second.attempt) == (job, 2)
    late: list[Callable[[], Any]] = [
        lambda: training.report(hold=first, progress={"phase": "late"}, history=[], lines=[(1, NOW, "late")]),
        lambda: training.succeed(hold=first, seconds=Decimal(1), version="cats@1", now=NOW),
        lambda: training.fail(hold=first, error="late", seconds=Decimal(1), now=NOW),
        lambda: training.cancelled(hold=first, seconds=Decimal(1), now=NOW),
        lambda: training.put_back(hold=first),
        lambda: training.lock(hold=first),
    ]
    for write in late:
        with pytest.raises(LeaseLost), scoping.operator():
            write()
    seen = shown(acme_client, job)
    assert (seen["state"], seen["progress"]["phase"], seen["attempt"]) == ("running", "starting", 2)
    assert acme_client.get(f"{JOBS}/{job}/logs").json()["results"] == []
    assert billed(acme) == []
    assert audited(acme) == ["training_job.create", "training_job.take_over"]


def test_a_job_that_three_trainers_died_of_fails_in_words(acme: Account, acme_client: APIClient) -> None:
    job = queued(acme_client)
    for attempt in (1, 2, 3):
        assert surely_claimed().attempt == attempt
        let_lease_run_out()
    assert claimed() is None
    seen = shown(acme_client, job)
    assert seen["state"] == "failed"
    assert "3 times" in seen["error"]
    assert billed(acme) == []


def test_a_job_whose_trainer_died_while_it_was_cancelled_is_cancelled(acme_client: APIClient) -> None:
    job = queued(acme_client)
    surely_claimed()
    acme_client.post(f"{JOBS}/{job}/cancel")
    let_lease_run_out()
    assert claimed() is None
    assert shown(acme_client, job)["state"] == "cancelled"


def test_a_job_that_is_put_back_waits_again_and_loses_no_attempt(acme_client: APIClient) -> None:
    job = queued(acme_client)
    for _ in range(4):
        hold = surely_claimed()
        assert hold.attempt == 1
        with scoping.operator():
            training.put_back(hold=hold)
        assert shown(acme_client, job)["state"] == "queued"


def test_many_jobs_of_one_tenant_do_not_hold_up_anothers(acme_client: APIClient, globex_client: APIClient) -> None:
    dataset = sealed(acme_client)
    acmes = [queued(acme_client, dataset) for _ in range(3)]
    globexs = queued(globex_client)
    assert [surely_claimed().job_id for _ in range(4)] == [acmes[0], globexs, acmes[1], acmes[2]]


def test_jobs_of_a_tenant_that_is_not_active_wait(acme: Account, acme_client: APIClient) -> None:
    queued(acme_client)
    with scoping.operator():
        acme.tenant.active = False
        acme.tenant.save()
    assert claimed() is None


def test_a_data_set_in_use_cannot_be_deleted(acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    queued(acme_client, dataset)
    assert acme_client.delete(f"{DATASETS}/{dataset}").status_code == 409


def test_an_operator_sees_jobs_and_cancels_them(acme: Account, acme_client: APIClient, admin_client: Client) -> None:
    waiting, done = queued(acme_client), queued(acme_client, sealed(acme_client, "more", first=100))
    with scoping.operator():
        TrainingJob.across_tenants.filter(pk=done).update(state=JobState.FAILED, error="it rained")
        dataset = Dataset.across_tenants.get(name="pets")
    page = admin_client.get("/admin/modelhub/trainingjob/", {"q": "pets"}).content.decode()
    assert waiting in page
    assert done not in page
    assert f"/admin/modelhub/dataset/{dataset.pk}/change/" in page
    form = admin_client.get(f"/admin/modelhub/trainingjob/{done}/change/").content.decode()
    assert "it rained" in form
    assert f"/admin/modelhub/traininglogline/?job__id__exact={done}" in form
    assert admin_client.get("/admin/modelhub/traininglogline/", {"job__id__exact": done}).status_code == 200
    answer = admin_client.post(
        "/admin/modelhub/trainingjob/", {"action": "cancel", "_selected_action": [waiting, done]}, follow=True
    )
    assert "1 cancelled" in answer.content.decode()
    assert shown(acme_client, waiting)["state"] == "cancelled"
    assert shown(acme_client, done)["state"] == "failed"
    with scoping.operator():
        assert AuditEvent.across_tenants.get(verb="training_job.cancel").actor == "operator:admin"
