"""Versions of a data set over HTTP: derived from a sealed one, added to, taken from; files are stored once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from inference.models import BatchPrediction
from modelhub import datasets, storage
from modelhub.models import Dataset, Model, ModelVersion, TrainingJob
from tenants import scoping
from tenants.models import Meter, UsageHour
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, audited, derive, derived, filled, live_digests, sealed, shown, upload
from tests.modelhub.places import places, stored_files
from tests.threads import in_threads

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

Capture = Callable[..., Any]


def seal(client: APIClient, dataset: str) -> Any:
    answer = client.post(f"{DATASETS}/{dataset}/seal")
    assert answer.status_code == 200, answer.content
    return answer.json()


def add(client: APIClient, dataset: str, files: dict[str, bytes]) -> Any:
    return client.put(f"{DATASETS}/{dataset}/content?mode=add", zips.packed(files), content_type="application/zip")


def names_of(account: Account, dataset: str) -> list[str]:
    with scoping.tenant(account.tenant.pk):
        row = datasets.get(tenant=account.tenant, dataset_id=dataset)
        return [item.name for item in datasets.load_manifest(row).items]


def test_a_version_has_what_the_one_before_has_but_for_what_is_removed(acme: Account, acme_client: APIClient) -> None:
    first = sealed(acme_client)
    before = shown(acme_client, first)
    second = derived(acme_client, first, remove=["train/cat/0.jpg", "train/dog/0.jpg"])
    row = shown(acme_client, second)
    assert row["name"] == "pets"
    assert (row["number"], row["latest"], row["family"], row["parent"]) == (2, 2, first, first)
    assert (row["state"], row["items"]) == ("checked", 8)
    assert row["report"]["splits"] == {"train": {"cat": 2, "dog": 2}, "validation": {"cat": 2, "dog": 2}}
    assert row["size"] < before["size"]
    assert names_of(acme, second) == [
        n for n in names_of(acme, first) if n not in ("train/cat/0.jpg", "train/dog/0.jpg")
    ]
    assert shown(acme_client, first) == before | {"latest": 2}
    assert seal(acme_client, second)["state"] == "sealed"
    assert audited(acme).count("dataset.derive") == 1


def test_versions_share_their_files(acme: Account, acme_client: APIClient, places: Path) -> None:
    first = sealed(acme_client)
    before = stored_files(places)
    second = derived(acme_client, first, remove=["train/cat/0.jpg"])
    manifest = shown(acme_client, second)["manifest_sha256"]
    assert stored_files(places) - before == {manifest}
    third = derived(acme_client, seal(acme_client, second)["id"])
    assert shown(acme_client, third)["manifest_sha256"] == manifest
    assert stored_files(places) == before | {manifest} == live_digests(acme)


def test_pictures_are_added_to_those_that_are_there(acme: Account, acme_client: APIClient, places: Path) -> None:
    version = derived(acme_client, sealed(acme_client))
    names = names_of(acme, version)
    answer = add(acme_client, version, {"train/cat/new.jpg": zips.picture(50), "train/dog/0.jpg": zips.picture(51)})
    assert answer.status_code == 200, answer.content
    row = answer.json()
    assert (row["state"], row["items"]) == ("checked", 11)
    assert row["report"]["splits"]["train"] == {"cat": 4, "dog": 3}
    assert names_of(acme, version) == sorted([*names, "train/cat/new.jpg"])
    with scoping.tenant(acme.tenant.pk):
        manifest = datasets.load_manifest(datasets.get(tenant=acme.tenant, dataset_id=version))
        found = {item.name: storage.read(tenant_id=acme.tenant.pk, sha256=item.sha256) for item in manifest.items}
    assert found["train/dog/0.jpg"] == zips.picture(51), "of two of one name the added one stays"
    assert found["train/cat/0.jpg"] == zips.good()["train/cat/0.jpg"]


def test_what_is_replaced_by_an_addition_is_erased_with_its_last_version(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    first = sealed(acme_client)
    version = derived(acme_client, first)
    add(acme_client, version, {"train/dog/0.jpg": zips.picture(51)})
    both = stored_files(places)
    assert both == live_digests(acme)
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(f"{DATASETS}/{first}").status_code == 204
    gone = both - stored_files(places)
    assert len(gone) == 2, "the first manifest, and the picture that only the first version had"
    assert stored_files(places) == live_digests(acme)
    seal(acme_client, version)
    assert names_of(acme, version)


@pytest.mark.parametrize("body", [b"no zip at all", zips.packed({"readme.txt": b"text"})])
def test_an_addition_that_cannot_be_used_changes_nothing(acme_client: APIClient, places: Path, body: bytes) -> None:
    version = derived(acme_client, sealed(acme_client))
    before, files = shown(acme_client, version), stored_files(places)
    answer = acme_client.put(f"{DATASETS}/{version}/content?mode=add", body, content_type="application/zip")
    if answer.status_code == 400:
        assert answer.json()["report"]["reasons"]
        assert shown(acme_client, version) == before
    else:  # what is there suffices by itself; the file that was left out is named
        assert answer.json()["report"]["bad"] == 1
        assert answer.json()["manifest_sha256"] == before["manifest_sha256"]
    assert stored_files(places) == files


def test_a_draft_with_too_little_left_waits_for_more(acme: Account, acme_client: APIClient) -> None:
    cats = [f"train/cat/{number}.jpg" for number in range(3)] + [f"validation/cat/{number}.jpg" for number in range(2)]
    version = derived(acme_client, sealed(acme_client), remove=cats)
    row = shown(acme_client, version)
    assert row["state"] == "rejected"
    assert "one class only" in row["report"]["reasons"][0]
    assert acme_client.post(f"{DATASETS}/{version}/seal").status_code == 409
    birds = zips.good(classes=["bird"], first=60)
    assert add(acme_client, version, {"train/bird/cut.jpg": b"cut"}).status_code == 400
    assert shown(acme_client, version) == row
    assert add(acme_client, version, birds).json()["classes"] == ["bird", "dog"]
    assert seal(acme_client, version)["items"] == 10


def test_mode_is_one_of_two(acme_client: APIClient) -> None:
    dataset = filled(acme_client)
    for query in ("mode=merge", "colour=red"):
        answer = acme_client.put(f"{DATASETS}/{dataset}/content?{query}", b"PK", content_type="application/zip")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == query.partition("=")[0]
    assert shown(acme_client, dataset)["state"] == "checked"


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        (["train/cat/9.jpg"], "no item 'train/cat/9.jpg'"),
        ([f"gone/{number}" for number in range(9)], "and 4 more"),
        (sorted(zips.good()), "All 10 items"),
        ("train/cat/0.jpg", ""),
        ([["train/cat/0.jpg"]], ""),
    ],
)
def test_only_what_is_there_is_removed_and_not_all_of_it(acme_client: APIClient, remove: Any, said: str) -> None:
    dataset = sealed(acme_client)
    answer = derive(acme_client, dataset, remove=remove)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith("remove")
    assert said in answer.json()["detail"]
    assert [row["number"] for row in acme_client.get(f"{DATASETS}/{dataset}/versions").json()["results"]] == [1]
    assert shown(acme_client, dataset)["latest"] == 1


def test_only_a_sealed_version_is_derived_from(acme_client: APIClient) -> None:
    dataset = filled(acme_client)
    answer = derive(acme_client, dataset)
    assert answer.status_code == 409
    assert "checked" in answer.json()["detail"]


def test_the_versions_are_listed_and_found_by_name_and_number(acme_client: APIClient) -> None:
    first = sealed(acme_client)
    second = seal(acme_client, derived(acme_client, first))["id"]
    third = derived(acme_client, second, remove=["train/cat/0.jpg"])
    other = sealed(acme_client, "other")
    for dataset in (first, second, third):
        rows = acme_client.get(f"{DATASETS}/{dataset}/versions").json()["results"]
        assert [row["id"] for row in rows] == [third, second, first]
    assert [row["id"] for row in acme_client.get(f"{DATASETS}/{other}/versions").json()["results"]] == [other]
    assert [row["id"] for row in acme_client.get(DATASETS, {"name": "pets", "number": "2"}).json()["results"]] == [
        second
    ]
    assert shown(acme_client, third)["parent"] == second


def test_a_number_is_given_once_and_a_name_is_the_familys(acme_client: APIClient) -> None:
    first = sealed(acme_client)
    second = derived(acme_client, first)
    assert acme_client.delete(f"{DATASETS}/{second}").status_code == 204
    third = derived(acme_client, first)
    assert shown(acme_client, third)["number"] == 3
    assert acme_client.delete(f"{DATASETS}/{first}").status_code == 204
    answer = acme_client.post(DATASETS, {"name": "pets", "kind": "image-classification"}, format="json")
    assert answer.status_code == 409, "its third version is there"
    assert acme_client.delete(f"{DATASETS}/{third}").status_code == 204
    assert shown(acme_client, filled(acme_client))["number"] == 1


def test_a_retry_with_the_same_idempotency_key_derives_once(acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    first, second = (
        acme_client.post(f"{DATASETS}/{dataset}/versions", {}, format="json", headers={"Idempotency-Key": "abc"})
        for _ in range(2)
    )
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert len(acme_client.get(f"{DATASETS}/{dataset}/versions").json()["results"]) == 2


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_versions_that_are_derived_at_once_have_numbers_of_their_own(acme: Account, acme_client: APIClient) -> None:
    first = sealed(acme_client)
    second = seal(acme_client, derived(acme_client, first))["id"]
    numbers: list[int] = []

    def derive_some(thread: int) -> None:
        client = APIClient(headers={"X-API-Key": acme.key})
        for _ in range(3):
            numbers.append(derive(client, (first, second)[thread % 2]).json()["number"])

    in_threads(derive_some, 4)
    assert sorted(numbers) == list(range(3, 15))


def test_the_database_refuses_a_change_of_what_is_sealed(acme: Account, acme_client: APIClient) -> None:
    dataset = sealed(acme_client)
    for change in ({"manifest_sha256": "0" * 64}, {"state": "checked"}, {"items": 3}, {"number": 7}, {"name": "x"}):
        with (
            pytest.raises(Exception, match="never changed"),
            transaction.atomic(),
            scoping.tenant(acme.tenant.pk),
        ):
            Dataset.objects.for_tenant(acme.tenant).filter(pk=dataset).update(**change)


# --- deleting frees what nothing else uses ----------------------------------------------------------------------------


def test_deleting_frees_what_no_version_job_model_or_batch_holds(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    """Each of four pictures has a holder of its own kind besides the first version; a fifth has none."""
    first = sealed(acme_client, train=4)
    with scoping.tenant(acme.tenant.pk):
        manifest = datasets.load_manifest(datasets.get(tenant=acme.tenant, dataset_id=first))
    by_name = {item.name: item.sha256 for item in manifest.items}
    second = derived(acme_client, first, remove=["train/cat/0.jpg", "train/cat/1.jpg", "train/dog/0.jpg"])
    held_by_model, held_by_batch, free = (by_name[f"train/{n}.jpg"] for n in ("cat/0", "cat/1", "dog/0"))
    seal(acme_client, second)
    with scoping.tenant(acme.tenant.pk):
        model = Model.objects.create(tenant=acme.tenant, name="cats")
        version = ModelVersion.objects.create(
            tenant=acme.tenant, model=model, number=1, manifest={"files": {"f": {"sha256": held_by_model, "size": 1}}}
        )
        TrainingJob.objects.create(tenant=acme.tenant, dataset_id=second, model_name="m", created_by="test")
        BatchPrediction.objects.create(
            tenant=acme.tenant, version=version, dataset_id=second, rows_total=1, state="succeeded",
            result_sha256=held_by_batch,
        )  # fmt: skip
    before = stored_files(places)
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(f"{DATASETS}/{first}").status_code == 204
    assert before - stored_files(places) == {free, manifest_sha256(manifest)}
    assert stored_files(places) == live_digests(acme)
    assert acme_client.delete(f"{DATASETS}/{second}").status_code == 409, "a job was made of it"


def manifest_sha256(manifest: datasets.Manifest) -> str:
    return storage.blobs.digest_of(manifest.as_bytes()).sha256


def test_byte_hours_stop_with_what_is_freed(
    acme: Account, acme_client: APIClient, django_capture_on_commit_callbacks: Capture
) -> None:
    first = sealed(acme_client)
    second = derived(acme_client, first, remove=["train/cat/0.jpg"])
    with django_capture_on_commit_callbacks(execute=True):
        acme_client.delete(f"{DATASETS}/{first}")
    with scoping.tenant(acme.tenant.pk):
        held = storage.held(tenant_id=acme.tenant.pk)
    size = shown(acme_client, second)["size"]
    assert size < held < size + 3000, "the pictures of the second version and its manifest"
    start = datetime.now(UTC) + timedelta(hours=2)
    start = start.replace(minute=0, second=0, microsecond=0)
    storage.accrue(now=start + timedelta(hours=1))
    assert hour_of(acme, start) == held
    with django_capture_on_commit_callbacks(execute=True):
        acme_client.delete(f"{DATASETS}/{second}")
    storage.accrue(now=start + timedelta(hours=3))
    assert hour_of(acme, start + timedelta(hours=2)) == 0
    with scoping.tenant(acme.tenant.pk):
        assert storage.held(tenant_id=acme.tenant.pk) == 0


def hour_of(account: Account, hour: datetime) -> Decimal:
    with scoping.tenant(account.tenant.pk):
        rows = UsageHour.objects.for_tenant(account.tenant).filter(meter=Meter.STORED_BYTE_HOURS, hour=hour)
        return sum((row.quantity for row in rows), Decimal(0))


# --- provenance -------------------------------------------------------------------------------------------------------


ABOUT = {"licence": "CC-BY-4.0", "source": "https://example.com/pets", "notes": "Two lines:\nof notes."}


def test_licence_source_and_notes_are_said_inherited_and_changed(acme: Account, acme_client: APIClient) -> None:
    body = {"name": "said", "kind": "image-classification", **ABOUT}
    made = acme_client.post(DATASETS, body, format="json")
    assert made.status_code == 201, made.content
    dataset = made.json()["id"]
    assert {name: made.json()[name] for name in ABOUT} == ABOUT
    upload(acme_client, dataset, zips.packed(zips.good()))
    seal(acme_client, dataset)
    second = derived(acme_client, dataset, notes="Only these.")
    assert {name: shown(acme_client, second)[name] for name in ABOUT} == ABOUT | {"notes": "Only these."}
    answer = acme_client.patch(f"{DATASETS}/{dataset}", {"licence": "CC0-1.0"}, format="json")
    assert answer.status_code == 200
    assert answer.json()["licence"] == "CC0-1.0"
    assert answer.json()["source"] == ABOUT["source"]
    assert shown(acme_client, second)["licence"] == "CC-BY-4.0", "each version has its own"
    assert audited(acme).count("dataset.change") == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"licence": "x" * 101}, "licence"),
        ({"licence": "a\nb"}, "licence"),
        ({"source": "x" * 501}, "source"),
        ({"notes": "x" * 4001}, "notes"),
        ({"notes": "a\x07b"}, "notes"),
        ({"notes": 5}, "notes"),
        ({"retain_until": "2020-01-01T00:00:00Z"}, "retain_until"),
        ({"retain_until": "tomorrow"}, "retain_until"),
        ({"name": "other"}, "name"),
    ],
)
def test_what_is_said_wrongly_is_named(acme_client: APIClient, body: dict[str, Any], field: str) -> None:
    dataset = filled(acme_client)
    before = shown(acme_client, dataset)
    answer = acme_client.patch(f"{DATASETS}/{dataset}", body, format="json")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert shown(acme_client, dataset) == before


def test_the_operator_sees_versions_and_what_is_said_of_them(acme_client: APIClient, admin_client: Client) -> None:
    first = sealed(acme_client)
    derived(acme_client, first)
    sealed(acme_client, "other")
    page = admin_client.get("/admin/modelhub/dataset/", {"q": first})
    assert page.context["cl"].result_count == 2
    assert f"/admin/modelhub/dataset/?q={first}" in page.content.decode()
    assert json.dumps([row.number for row in page.context["cl"].result_list]) == "[2, 1]"
