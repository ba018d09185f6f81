"""A data set over HTTP: created, listed, sealed, deleted, and what the operator sees of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from modelhub.models import Dataset, Model, ModelVersion, TrainingJob
from tenants import scoping
from tenants.keys import api_keys
from tenants.models import AuditEvent
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, audited, create, filled, live_digests, shown, upload
from tests.modelhub.places import places, stored_files

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

Capture = Callable[..., Any]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_new_data_set_is_empty(acme: Account, acme_client: APIClient) -> None:
    row = shown(acme_client, create(acme_client))
    assert row["id"].startswith("ds_")
    assert row["created_at"].endswith("Z")
    assert {k: row[k] for k in ("name", "kind", "state", "items", "size", "classes", "report", "progress")} == {
        "name": "pets",
        "kind": "image-classification",
        "state": "created",
        "items": 0,
        "size": 0,
        "classes": [],
        "report": None,
        "progress": {},
    }
    assert audited(acme) == ["dataset.create"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "image-classification"}, "name"),
        ({"name": "", "kind": "image-classification"}, "name"),
        ({"name": "   ", "kind": "image-classification"}, "name"),
        ({"name": "x" * 81, "kind": "image-classification"}, "name"),
        ({"name": 5, "kind": "image-classification"}, "name"),
        ({"name": ["pets"], "kind": "image-classification"}, "name"),
        ({"name": None, "kind": "image-classification"}, "name"),
        ({"name": "a\x07b", "kind": "image-classification"}, "name"),
        ({"name": "a\x00b", "kind": "image-classification"}, "name"),
        ({"name": "pets"}, "kind"),
        ({"name": "pets", "kind": "sculptures"}, "kind"),
        ({"name": "pets", "kind": {}}, "kind"),
        ({"name": "pets", "kind": "image-classification", "colour": "red"}, "colour"),
    ],
)
def test_a_field_that_is_wrong_is_named(acme_client: APIClient, body: Any, field: str) -> None:
    answer = acme_client.post(DATASETS, body, format="json")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("body", [b'{"name": "pets"', b'"pets"', b"[]", b'{"name": NaN}', b"", b"null", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(acme_client: APIClient, body: bytes) -> None:
    answer = acme_client.post(DATASETS, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_name_of_eighty_letters_in_any_script_is_taken(acme_client: APIClient) -> None:
    assert shown(acme_client, create(acme_client, "ж" * 80))["name"] == "ж" * 80


def test_a_name_is_given_once_a_tenant(acme_client: APIClient, globex_client: APIClient) -> None:
    create(acme_client)
    answer = acme_client.post(DATASETS, {"name": "pets", "kind": "image-classification"}, format="json")
    assert answer.status_code == 409
    assert "'pets'" in answer.json()["detail"]
    create(globex_client)


def test_a_retry_with_the_same_idempotency_key_creates_one_data_set(acme_client: APIClient) -> None:
    body = {"name": "pets", "kind": "image-classification"}
    first, second = (
        acme_client.post(DATASETS, body, format="json", headers={"Idempotency-Key": "abc"}) for _ in range(2)
    )
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert len(acme_client.get(DATASETS).json()["results"]) == 1


def test_the_list_is_paged_and_filtered(acme_client: APIClient) -> None:
    names = [f"set {number}" for number in range(3)]
    made = [create(acme_client, name) for name in names]
    upload(acme_client, made[1], zips.packed(zips.good()))
    first = acme_client.get(DATASETS, {"limit": 2}).json()
    assert [row["name"] for row in first["results"]] == ["set 2", "set 1"]
    second = acme_client.get(first["next"]).json()
    assert [row["name"] for row in second["results"]] == ["set 0"]
    assert second["next"] is None
    for query, found in (
        ({"state": "checked"}, ["set 1"]),
        ({"state": "sealed"}, []),
        ({"name": "set 2"}, ["set 2"]),
        ({"kind": "image-classification", "state": "created"}, ["set 2", "set 0"]),
    ):
        assert [row["name"] for row in acme_client.get(DATASETS, query).json()["results"]] == found


@pytest.mark.parametrize(
    "query", [{"state": "lost"}, {"kind": "x"}, {"limit": "0"}, {"limit": "ten"}, {"sort": "name"}]
)
def test_a_filter_that_is_wrong_is_named(acme_client: APIClient, query: dict[str, str]) -> None:
    answer = acme_client.get(DATASETS, query)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == next(iter(query))


def test_another_tenants_data_set_is_missing_on_every_route(acme_client: APIClient, globex_client: APIClient) -> None:
    dataset = filled(acme_client)
    before = shown(acme_client, dataset)
    body = zips.packed(zips.good(first=100))
    for method, path, data, content_type in (
        ("get", "", None, "application/json"),
        ("delete", "", None, "application/json"),
        ("put", "/content", body, "application/zip"),
        ("put", "/content", b"text", "text/plain"),
        ("post", "/seal", {}, "application/json"),
    ):
        answers = []
        for name in (dataset, "ds_00000000000000000000000000"):
            options = {"format": "json"} if isinstance(data, dict) else {"content_type": content_type}
            answers.append(getattr(globex_client, method)(f"{DATASETS}/{name}{path}", data, **options))
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        assert answers[0].json()["detail"] == answers[1].json()["detail"].replace(
            "ds_00000000000000000000000000", dataset
        )
    assert globex_client.get(DATASETS).json()["results"] == []
    assert shown(acme_client, dataset) == before


def test_a_key_that_may_only_read_changes_nothing(acme: Account, acme_client: APIClient, client_of: Any) -> None:
    dataset = filled(acme_client)
    with scoping.operator():
        key = api_keys.create(tenant=acme.tenant, name="reader", scopes=["read"], actor="operator:test", now=NOW)
    reader = client_of(key.text)
    assert reader.get(f"{DATASETS}/{dataset}").status_code == 200
    assert reader.post(DATASETS, {"name": "x", "kind": "image-classification"}, format="json").status_code == 403
    assert upload(reader, dataset, zips.packed(zips.good())).status_code == 403
    assert reader.post(f"{DATASETS}/{dataset}/seal").status_code == 403
    assert reader.delete(f"{DATASETS}/{dataset}").status_code == 403


def test_a_sealed_data_set_never_changes(acme: Account, acme_client: APIClient) -> None:
    dataset = filled(acme_client)
    sealed = acme_client.post(f"{DATASETS}/{dataset}/seal")
    assert sealed.status_code == 200
    assert sealed.json()["state"] == "sealed"
    assert sealed.json()["sealed_at"].endswith("Z")
    assert acme_client.post(f"{DATASETS}/{dataset}/seal").json() == sealed.json()
    answer = upload(acme_client, dataset, zips.packed(zips.good(first=50)))
    assert answer.status_code == 409
    assert "sealed" in answer.json()["detail"]
    assert shown(acme_client, dataset) == sealed.json()
    assert audited(acme).count("dataset.seal") == 1


@pytest.mark.parametrize("state", ["created", "rejected", "uploading"])
def test_only_a_checked_data_set_is_sealed(acme: Account, acme_client: APIClient, state: str) -> None:
    dataset = create(acme_client)
    with scoping.tenant(acme.tenant.pk):
        Dataset.objects.for_tenant(acme.tenant).update(state=state)
    answer = acme_client.post(f"{DATASETS}/{dataset}/seal")
    assert answer.status_code == 409
    assert state in answer.json()["detail"]
    assert "dataset.seal" not in audited(acme)


def test_a_deleted_data_set_takes_its_files_with_it(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset, twin = filled(acme_client), filled(acme_client, "twin")
    both = stored_files(places)
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(f"{DATASETS}/{dataset}").status_code == 204
    assert stored_files(places) == both == live_digests(acme)
    assert acme_client.get(f"{DATASETS}/{dataset}").status_code == 404
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(f"{DATASETS}/{twin}").status_code == 204
    assert stored_files(places) == live_digests(acme) == set()
    assert audited(acme).count("dataset.delete") == 2


def test_another_tenants_same_pictures_are_its_own(
    acme_client: APIClient,
    globex: Account,
    globex_client: APIClient,
    places: Path,
    django_capture_on_commit_callbacks: Capture,
) -> None:
    mine, theirs = filled(acme_client), filled(globex_client)
    with django_capture_on_commit_callbacks(execute=True):
        acme_client.delete(f"{DATASETS}/{mine}")
    assert stored_files(places) == live_digests(globex)
    assert shown(globex_client, theirs)["state"] == "checked"


def test_a_data_set_that_was_trained_on_stays(acme: Account, acme_client: APIClient) -> None:
    dataset = filled(acme_client)
    with scoping.tenant(acme.tenant.pk):
        job = TrainingJob.objects.create(
            tenant=acme.tenant, dataset_id=dataset, model_name="cats", recipe="image-classifier", created_by="key:x"
        )
    answer = acme_client.delete(f"{DATASETS}/{dataset}")
    assert answer.status_code == 409
    assert job.pk in answer.json()["detail"]
    assert shown(acme_client, dataset)["state"] == "checked"


def test_a_data_set_that_a_model_version_came_from_stays(acme: Account, acme_client: APIClient) -> None:
    dataset = filled(acme_client)
    with scoping.tenant(acme.tenant.pk):
        model = Model.objects.create(tenant=acme.tenant, name="cats")
        ModelVersion.objects.create(
            tenant=acme.tenant, model=model, number=1, recipe="r", manifest={"files": {}}, dataset_id=dataset
        )
    answer = acme_client.delete(f"{DATASETS}/{dataset}")
    assert answer.status_code == 409
    assert "cats@1" in answer.json()["detail"]


def test_a_file_that_a_model_version_holds_outlives_the_data_set(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = filled(acme_client)
    with scoping.tenant(acme.tenant.pk):
        kept = sorted(live_digests(acme))[0]
        model = Model.objects.create(tenant=acme.tenant, name="cats")
        ModelVersion.objects.create(
            tenant=acme.tenant,
            model=model,
            number=1,
            recipe="r",
            manifest={"files": {"model.keras": {"sha256": kept, "size": 1}}},
        )
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(f"{DATASETS}/{dataset}").status_code == 204
    assert stored_files(places) == {kept} == live_digests(acme)


@pytest.fixture
def operator(admin_client: Client) -> Client:
    return admin_client


def test_the_operator_finds_data_sets_and_files(acme: Account, acme_client: APIClient, operator: Client) -> None:
    filled(acme_client)
    create(acme_client, "empty")
    for page, found in (
        ("/admin/modelhub/dataset/", 2),
        ("/admin/modelhub/dataset/?q=pets", 1),
        ("/admin/modelhub/dataset/?q=acme", 2),
        ("/admin/modelhub/dataset/?state__exact=checked", 1),
        ("/admin/modelhub/blob/", 11),
        ("/admin/modelhub/blob/?q=acme", 11),
        ("/admin/modelhub/blob/?erased_at__isempty=0", 0),
        (f"/admin/modelhub/blob/?q={sorted(live_digests(acme))[0]}", 1),
    ):
        answer = operator.get(page)
        assert answer.status_code == 200, page
        assert answer.context["cl"].result_count == found, page


def test_the_operator_seals_by_the_verb_and_edits_nothing(
    acme: Account, acme_client: APIClient, operator: Client
) -> None:
    checked, empty = filled(acme_client), create(acme_client, "empty")
    answer = operator.post(
        "/admin/modelhub/dataset/", {"action": "seal", "_selected_action": [checked, empty]}, follow=True
    )
    assert "1 sealed." in answer.content.decode()
    assert "only a checked one can be sealed" in answer.content.decode()
    assert shown(acme_client, checked)["state"] == "sealed"
    assert shown(acme_client, empty)["state"] == "created"
    with scoping.operator():
        assert AuditEvent.across_tenants.get(verb="dataset.seal").actor == "operator:admin"
    change = operator.post(f"/admin/modelhub/dataset/{empty}/change/", {"name": "changed"})
    assert change.status_code == 403
    assert operator.get(f"/admin/modelhub/dataset/{empty}/change/").status_code == 200
    assert operator.get("/admin/modelhub/dataset/add/").status_code == 403


def test_the_openapi_document_describes_the_upload(client: Client) -> None:
    document = client.get("/api/schema/?format=json").json()
    upload_operation = document["paths"]["/api/v1/datasets/{dataset_id}/content"]["put"]
    assert upload_operation["requestBody"]["content"]["application/zip"]["schema"] == {
        "type": "string",
        "format": "binary",
    }
    assert set(upload_operation["responses"]) >= {"200", "400", "401", "403", "404", "409", "411", "413", "415", "429"}
