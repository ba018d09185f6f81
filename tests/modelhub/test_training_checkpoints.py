"""Where a training job is taken up, what cancelling one keeps, and with whose weights one begins."""

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks
from rest_framework.test import APIClient

from modelhub import registry, storage, training
from modelhub.models import JobState, ModelVersion, TrainingJob
from modelhub.recipes.image import recipe
from modelhub.training import Hold, LeaseLost, Stop
from tenants import scoping
from tests.conftest import Account
from tests.modelhub.places import places
from tests.modelhub.test_training import (
    JOBS,
    audited,
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
EPOCHS = [{"epoch": number, "loss": 1 / number} for number in (1, 2, 3)]


def checkpointed(hold: Hold, folder: Path, content: bytes = b"weights", *, epochs: int = 2) -> str:
    """Stores a checkpoint as the trainer does."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / "checkpoint-1"
    file.write_bytes(content)
    where = {"tenant_id": hold.tenant_id, "job_id": hold.job_id}
    storage.checkpoints.keep(file, **where, sha256=sha256)
    with scoping.operator():
        training.checkpointed(hold=hold, sha256=sha256, size=len(content), epochs=epochs, history=EPOCHS)
    storage.checkpoints.drop(**where, but=sha256)
    return sha256


def kept(places: Path) -> list[str]:
    return sorted(path.name for path in (places / "files" / "checkpoints").rglob("*") if path.is_file())


def cancel(client: APIClient, job: str, **body: Any) -> Any:
    return client.post(f"{JOBS}/{job}/cancel", body, format="json")


def test_another_trainer_gets_the_checkpoint_and_its_epochs(acme_client: APIClient, places: Path) -> None:
    job = queued(acme_client)
    hold = surely_claimed("one")
    checkpointed(hold, places, b"older")
    newer = checkpointed(hold, places, b"newer")
    assert kept(places) == [newer]
    (stored,) = (places / "files" / "checkpoints").rglob(newer)
    assert b"newer" not in stored.read_bytes(), "it is not encrypted"
    let_lease_run_out()
    second = surely_claimed("two")
    assert shown(acme_client, job)["metrics"] == EPOCHS[:2], "what the checkpoint does not know is trained again"
    with scoping.operator():
        row = TrainingJob.across_tenants.get(pk=job)
    where = {"tenant_id": row.tenant_id, "job_id": job}
    path = storage.checkpoints.fetch(places, **where, sha256=row.checkpoint["sha256"])
    assert path is not None
    assert path.read_bytes() == b"newer"
    with pytest.raises(LeaseLost), scoping.operator():
        training.checkpointed(hold=hold, sha256="0" * 64, size=1, epochs=3, history=[])
    assert second.attempt == 2


def test_a_checkpoint_that_was_changed_or_is_gone_is_not_used(acme_client: APIClient, places: Path) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    sha256 = checkpointed(hold, places)
    where = {"tenant_id": hold.tenant_id, "job_id": job, "sha256": sha256}
    (file,) = (places / "files" / "checkpoints").rglob(sha256)
    file.write_bytes(b"weightS")
    assert storage.checkpoints.fetch(places, **where) is None
    file.unlink()
    assert storage.checkpoints.fetch(places, **where) is None


@pytest.mark.parametrize("how", ["succeed", "fail", "cancelled", "abandon", "cancel"])
def test_the_end_of_a_job_erases_its_checkpoint(
    acme_client: APIClient,
    places: Path,
    how: str,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    checkpointed(hold, places)
    with django_capture_on_commit_callbacks(execute=True), scoping.operator():
        if how == "succeed":
            training.succeed(hold=hold, seconds=Decimal(1), version="cats@1", now=NOW)
        elif how == "fail":
            training.fail(hold=hold, error="It rained.", seconds=Decimal(1), now=NOW)
        elif how == "cancelled":
            training.cancelled(hold=hold, seconds=Decimal(1), now=NOW)
    if how == "abandon":
        for _ in range(3):
            let_lease_run_out()
            surely_claimed()
        let_lease_run_out()
        with django_capture_on_commit_callbacks(execute=True):
            assert claimed() is None
    if how == "cancel":
        with scoping.operator():
            training.put_back(hold=hold)
        with django_capture_on_commit_callbacks(execute=True):
            assert cancel(acme_client, job).json()["state"] == "cancelled"
    assert kept(places) == []
    assert not any((places / "files" / "checkpoints").iterdir()), "empty folders are left"
    with scoping.operator():
        assert TrainingJob.across_tenants.get(pk=job).checkpoint == {}


def test_what_killed_trainers_left_is_swept(acme_client: APIClient, places: Path) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    sha256 = checkpointed(hold, places)
    orphan = places / "orphan"
    orphan.write_bytes(b"of a job that has ended")
    storage.checkpoints.keep(orphan, tenant_id=hold.tenant_id, job_id="job_gone", sha256="f" * 64)
    assert storage.checkpoints.sweep(live={job}) == 1
    assert kept(places) == [sha256]


def test_attempts_count_anew_from_each_checkpoint(acme_client: APIClient, places: Path) -> None:
    job = queued(acme_client)
    for attempt in range(1, 8):
        hold = surely_claimed()
        assert (hold.job_id, hold.attempt) == (job, attempt)
        if attempt in (2, 4):
            checkpointed(hold, places, str(attempt).encode())
        let_lease_run_out()
        if attempt == 7:
            break
    assert claimed() is None
    assert shown(acme_client, job)["state"] == "failed"


def test_a_job_that_is_put_back_keeps_its_checkpoint(acme_client: APIClient, places: Path) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    sha256 = checkpointed(hold, places)
    with scoping.operator():
        training.put_back(hold=hold)
    assert shown(acme_client, job)["metrics"] == EPOCHS[:2]
    surely_claimed("two")
    assert kept(places) == [sha256]


def test_cancelling_may_keep_the_best_so_far(acme: Account, acme_client: APIClient) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    answer = cancel(acme_client, job, keep_best=True)
    assert (answer.status_code, answer.json()["state"], answer.json()["keep_best"]) == (202, "running", True)
    with scoping.operator():
        assert training.report(hold=hold, progress={}, history=[], lines=[]) == Stop.KEEP_BEST
    let_lease_run_out()
    second = surely_claimed("two")  # its trainer died, and what it has learned is wanted still
    with scoping.operator():
        training.cancelled(hold=second, seconds=Decimal("2.5"), version="cats@1", stop_reason="Enough.", now=NOW)
    ended = shown(acme_client, job)
    assert (ended["state"], ended["stop_reason"]) == ("cancelled", "Enough.")
    assert [(version, quantity) for _, version, quantity in billed(acme)] == [("cats@1", Decimal("2.5"))]
    verbs = audited(acme)
    assert verbs.count("training_job.cancel") == verbs.count("training_job.end_cancelled") == 1


def test_who_keeps_the_best_may_still_end_it_at_once(acme_client: APIClient) -> None:
    job = queued(acme_client)
    hold = surely_claimed()
    for body, stop in (({"keep_best": True}, Stop.KEEP_BEST), ({}, Stop.AT_ONCE), ({"keep_best": True}, Stop.AT_ONCE)):
        assert cancel(acme_client, job, **body).status_code == 202
        with scoping.operator():
            assert training.report(hold=hold, progress={}, history=[], lines=[]) == stop
    let_lease_run_out()
    assert claimed() is None
    assert shown(acme_client, job)["state"] == "cancelled"


def test_a_job_that_waits_has_nothing_to_keep_unless_it_was_put_back(acme_client: APIClient, places: Path) -> None:
    dataset = sealed(acme_client)
    answer = cancel(acme_client, queued(acme_client, dataset), keep_best=True)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    job = queued(acme_client, dataset)
    hold = surely_claimed()
    checkpointed(hold, places)
    with scoping.operator():
        training.put_back(hold=hold)
    answer = cancel(acme_client, job, keep_best=True)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert surely_claimed().job_id == job
    assert cancel(acme_client, job, keep_best="yes, please").status_code == 400


def version_of(account: Account, folder: Path, *, job: str | None = None, **changes: Any) -> ModelVersion:
    """A published version, whose weights nobody looks at here."""
    file = folder / "model.keras"
    file.write_bytes(b"weights")
    interface = recipe.interface(["cat", "dog"], height=150, width=150)
    about: dict[str, Any] = {"recipe": "image-classifier", "parameters": {"architecture": "seed-cnn"}} | changes
    with scoping.operator():
        return registry.publish(
            tenant_id=account.tenant.pk, model_name="cats", files={file.name: file}, serving={}, metrics={},
            signature=interface.signature, preprocessing={}, labels=about.pop("labels", interface.labels),
            decision=interface.decision, conversion={}, actor="operator:test", now=timezone.now(),
            job=TrainingJob.across_tenants.get(pk=job) if job else None, **about,
        )  # fmt: skip


def test_a_training_may_begin_with_a_versions_weights(acme: Account, acme_client: APIClient, places: Path) -> None:
    version = version_of(acme, places)
    job = shown(acme_client, queued(acme_client, warm_start=version.pk))
    assert job["warm_start"] == version.pk
    with scoping.operator():
        row = training.claim(trainer="one", now=timezone.now())
    assert row is not None
    assert str(row.warm_start) == "cats@1"


@pytest.mark.parametrize(
    ("changes", "asked", "words"),
    [
        ({"recipe": ""}, {}, "cats@1 was not trained here"),
        ({"recipe": "table-reader"}, {}, "cats@1 was made by the recipe table-reader"),
        ({}, {"parameters": {"architecture": "convnet"}}, "has the architecture seed-cnn"),
        ({"labels": ["cat", "dog", "owl"]}, {}, "tells 3 classes apart. Expected one that tells 2 apart"),
    ],
)
def test_weights_that_cannot_fit_are_refused_in_words(
    acme: Account, acme_client: APIClient, places: Path, changes: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    version = version_of(acme, places, **changes)
    answer = post(acme_client, wanted(sealed(acme_client), warm_start=version.pk, **asked))
    assert answer.status_code == 400
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "warm_start"


def test_anothers_weights_are_as_if_they_were_not_there(
    acme: Account, acme_client: APIClient, globex_client: APIClient, places: Path
) -> None:
    version, nobodys = version_of(acme, places).pk, "ver_00000000000000000000000000"
    dataset = sealed(globex_client)
    answers = [post(globex_client, wanted(dataset, warm_start=one)) for one in (version, nobodys)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["detail"].replace(version, nobodys) == answers[1].json()["detail"]


def retrain(client: APIClient, job: str, **body: Any) -> Any:
    return client.post(f"{JOBS}/{job}/retrain", body, format="json")


def test_a_training_is_repeated_on_another_data_set_with_one_call(
    acme: Account, acme_client: APIClient, places: Path
) -> None:
    other = sealed(acme_client, "more pets", first=90)
    first = queued(acme_client, parameters={"epochs": 3, "seed": 9})
    made = version_of(acme, places, job=first)
    with scoping.operator():
        TrainingJob.across_tenants.filter(pk=first).update(state=JobState.SUCCEEDED)
    answer = retrain(acme_client, first, dataset=other, warm_start=True, budget="1.50")
    assert answer.status_code == 201, answer.content
    again, before = answer.json(), shown(acme_client, first)
    assert (again["dataset"], again["warm_start"], again["state"]) == (other, made.pk, "queued")
    assert again["budget"] == {"amount": "1.50", "currency": "EUR"}
    assert [again[name] for name in ("model", "recipe", "parameters")] == [
        before[name] for name in ("model", "recipe", "parameters")
    ]
    plain = retrain(acme_client, first).json()
    assert (plain["dataset"], plain["warm_start"], plain["budget"]) == (before["dataset"], None, None)


def test_what_cannot_be_repeated_is_refused_in_words(acme_client: APIClient, globex_client: APIClient) -> None:
    job = queued(acme_client)
    answer = retrain(acme_client, job, warm_start=True)
    assert answer.status_code == 409
    assert "made no version" in answer.json()["detail"]
    assert retrain(acme_client, job, dataset="ds_nobodys").status_code == 400
    assert retrain(acme_client, job, epochs=3).status_code == 400
    foreign, nobodys = retrain(globex_client, job), retrain(globex_client, "job_00000000000000000000000000")
    assert foreign.status_code == nobodys.status_code == 404
