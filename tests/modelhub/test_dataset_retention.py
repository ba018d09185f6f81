"""Retention: content goes at its date; what was made of it stays explained."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from rest_framework.test import APIClient

from modelhub import storage
from modelhub.datasets import retention
from modelhub.models import Dataset, Model, ModelVersion, TrainingJob
from modelhub.trainer.runner import Trainer
from tenants import scoping
from tenants.models import AuditEvent
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, audited, create, derive, derived, filled, live_digests, sealed, shown, upload
from tests.modelhub.places import places, stored_files

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

Capture = Callable[..., Any]
DAY = timedelta(days=1)


def retain(client: APIClient, dataset: str, until: datetime | None) -> None:
    body = {"retain_until": None if until is None else until.isoformat()}
    answer = client.patch(f"{DATASETS}/{dataset}", body, format="json")
    assert answer.status_code == 200, answer.content


def test_content_is_erased_at_its_date(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset, kept = sealed(acme_client), sealed(acme_client, "kept", first=100)
    files = stored_files(places)
    now = timezone.now()
    retain(acme_client, dataset, now + DAY)
    before = shown(acme_client, dataset)
    with django_capture_on_commit_callbacks(execute=True):
        assert retention.erase_expired(now=now + DAY - timedelta(seconds=1)) == 0
        assert stored_files(places) == files
        assert retention.erase_expired(now=now + DAY) == 1
        assert retention.erase_expired(now=now + DAY) == 0
    row = shown(acme_client, dataset)
    assert row["state"] == "erased"
    assert row["erased_at"].endswith("Z")
    assert (row["report"], row["classes"]) == (None, [])
    for name in ("name", "number", "manifest_sha256", "items", "size", "sealed_at", "licence"):
        assert row[name] == before[name]
    assert shown(acme_client, kept)["state"] == "sealed"
    assert stored_files(places) == live_digests(acme)
    assert len(stored_files(places)) == 11
    with scoping.operator():
        event = AuditEvent.across_tenants.get(verb="dataset.erase")
    assert (event.actor, event.subject) == ("service:retention", dataset)
    assert event.detail["manifest_sha256"] == before["manifest_sha256"]


def test_a_date_that_was_taken_back_erases_nothing(acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    retain(acme_client, dataset, timezone.now() + DAY)
    retain(acme_client, dataset, None)
    assert retention.erase_expired(now=timezone.now() + 2 * DAY) == 0
    assert shown(acme_client, dataset)["state"] == "sealed"


def test_what_a_later_version_shares_stays_until_that_one_goes(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    first = sealed(acme_client)
    now = timezone.now()
    retain(acme_client, first, now + DAY)
    second = derived(acme_client, first, remove=["train/cat/0.jpg"])
    assert shown(acme_client, second)["retain_until"] == shown(acme_client, first)["retain_until"], "it is inherited"
    retain(acme_client, second, now + 3 * DAY)
    with django_capture_on_commit_callbacks(execute=True):
        assert retention.erase_expired(now=now + 2 * DAY) == 1
    assert shown(acme_client, first)["state"] == "erased"
    assert len(stored_files(places)) == 10, "nine pictures and the second manifest"
    assert shown(acme_client, second)["parent"] == first
    with django_capture_on_commit_callbacks(execute=True):
        assert retention.erase_expired(now=now + 3 * DAY) == 1
    assert stored_files(places) == live_digests(acme) == set()


def test_what_was_made_of_it_stays_explained(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = sealed(acme_client)
    sha256 = shown(acme_client, dataset)["manifest_sha256"]
    with scoping.tenant(acme.tenant.pk):
        job = TrainingJob.objects.create(
            tenant=acme.tenant, dataset_id=dataset, model_name="m", recipe="image-classifier", created_by="test"
        )
        model = Model.objects.create(tenant=acme.tenant, name="cats")
        ModelVersion.objects.create(
            tenant=acme.tenant, model=model, number=1, manifest=MANIFEST, dataset_id=dataset, dataset_sha256=sha256
        )
    assert acme_client.delete(f"{DATASETS}/{dataset}").status_code == 409
    now = timezone.now()
    retain(acme_client, dataset, now + DAY)
    with django_capture_on_commit_callbacks(execute=True):
        assert retention.erase_expired(now=now + DAY) == 1
    assert not stored_files(places)
    lineage = acme_client.get("/api/v1/models/cats/versions/1").json()["lineage"]
    assert (lineage["dataset"], lineage["dataset_sha256"]) == (dataset, sha256)
    assert acme_client.get(f"/api/v1/training-jobs/{job.pk}").json()["dataset"] == dataset


MANIFEST: dict[str, Any] = {
    "files": {}, "serving": {}, "signature": {}, "preprocessing": {}, "labels": [], "decision": {}, "conversion": {},
}  # fmt: skip


def test_nothing_more_is_done_with_what_was_erased(acme: Account, acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    retain(acme_client, dataset, timezone.now() + DAY)
    retention.erase_expired(now=timezone.now() + DAY)
    body = {"dataset": dataset, "model": "m", "recipe": "image-classifier", "parameters": {}}
    for answer in (
        acme_client.post(f"{DATASETS}/{dataset}/seal"),
        upload(acme_client, dataset, zips.packed(zips.good())),
        derive(acme_client, dataset),
        acme_client.patch(f"{DATASETS}/{dataset}", {"notes": "more"}, format="json"),
        acme_client.get(f"{DATASETS}/{dataset}/export"),
        acme_client.post("/api/v1/training-jobs", body, format="json"),
    ):
        assert answer.status_code == 409
        assert "erased" in answer.json()["detail"]
    assert acme_client.delete(f"{DATASETS}/{dataset}").status_code == 204


def test_a_job_that_waits_for_erased_content_fails_in_words(
    acme: Account, acme_client: APIClient, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = sealed(acme_client)
    body = {"dataset": dataset, "model": "m", "recipe": "image-classifier", "parameters": {}}
    job = acme_client.post("/api/v1/training-jobs", body, format="json").json()["id"]
    retain(acme_client, dataset, timezone.now() + DAY)
    with django_capture_on_commit_callbacks(execute=True):
        retention.erase_expired(now=timezone.now() + DAY)
        assert Trainer().run_one()
    row = acme_client.get(f"/api/v1/training-jobs/{job}").json()
    assert row["state"] == "failed"
    assert "was erased at" in row["error"]


def test_an_upload_under_way_is_dropped_with_the_content(
    acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = filled(acme_client)
    answer = acme_client.post(
        f"{DATASETS}/{dataset}/uploads", {"length": 10, "media_type": "application/zip"}, format="json"
    )
    path = f"{DATASETS}/{dataset}/uploads/{answer.json()['id']}"
    acme_client.put(f"{path}/parts/1", b"secret", content_type="application/octet-stream")
    retain(acme_client, dataset, timezone.now() + DAY)
    with django_capture_on_commit_callbacks(execute=True):
        retention.erase_expired(now=timezone.now() + DAY)
    assert acme_client.get(path).json()["state"] == "expired"
    assert not [file for file in places.rglob("*") if file.is_file()]


def test_a_trainer_and_a_command_erase_what_is_due(acme: Account, acme_client: APIClient, capsys: Any) -> None:
    dataset, other = filled(acme_client), create(acme_client, "other")
    with scoping.tenant(acme.tenant.pk):
        Dataset.objects.for_tenant(acme.tenant).filter(pk=dataset).update(retain_until=timezone.now())
    Trainer().run_one()
    assert shown(acme_client, dataset)["state"] == "erased"
    with scoping.tenant(acme.tenant.pk):
        assert storage.held(tenant_id=acme.tenant.pk) == 0
        Dataset.objects.for_tenant(acme.tenant).filter(pk=other).update(retain_until=timezone.now())
    call_command("erase_expired_datasets")
    assert "1 data sets are erased." in capsys.readouterr().out
    assert shown(acme_client, other)["state"] == "erased"
    assert audited(acme).count("dataset.erase") == 2
