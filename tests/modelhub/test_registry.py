"""The registry: versions that never change, numbers without gaps, and files that are trusted only when they fit."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import artifacts, registry, storage
from modelhub.artifacts import Tampered
from modelhub.models import Model, ModelVersion
from modelhub.recipes.image import recipe
from tenants import scoping
from tenants.models import AuditEvent
from tests.conftest import Account
from tests.modelhub.places import places, stored_files
from tests.threads import in_threads

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

MODELS = "/api/v1/models"
INTERFACE = recipe.interface(["cat", "dog"], height=150, width=150)
METRICS = {"accuracy": 0.9, "loss": 0.25, "confusion_matrix": {"labels": ["cat", "dog"], "matrix": [[9, 1], [1, 9]]}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(b"the weights of a model")
    return path


def publish(account: Account, file: Path, *, model: str = "cats", **changes: Any) -> ModelVersion:
    values: dict[str, Any] = {
        "files": {"model.keras": file, "model.fp32.tflite": file},
        "serving": {"engine": "litert", "file": "model.fp32.tflite"},
        "signature": INTERFACE.signature,
        "preprocessing": INTERFACE.preprocessing,
        "labels": INTERFACE.labels,
        "decision": INTERFACE.decision,
        "metrics": METRICS,
        "parameters": {"epochs": 1},
        "conversion": {"served": "model.fp32.tflite", "files": {"model.fp32.tflite": {"max_difference": 1e-07}}},
    } | changes
    with scoping.tenant(account.tenant.pk):
        return registry.publish(
            tenant_id=account.tenant.pk, model_name=model, recipe="image-classifier", actor="operator:test",
            now=timezone.now(), **values,
        )  # fmt: skip


def checked_path(account: Account, version: ModelVersion, **changes: Any) -> Path:
    return artifacts.checked_path(
        **{
            "tenant_id": account.tenant.pk,
            "manifest": version.manifest,
            "manifest_seal": version.manifest_seal,
            "file": "model.fp32.tflite",
        }
        | changes
    )


def fresh(account: Account, version: ModelVersion) -> ModelVersion:
    """As the database gives it back."""
    with scoping.tenant(account.tenant.pk):
        return ModelVersion.objects.for_tenant(account.tenant).get(pk=version.pk)


def test_a_version_is_shown_with_all_that_a_server_needs(acme: Account, acme_client: APIClient, file: Path) -> None:
    made = publish(acme, file)
    seen = acme_client.get(f"{MODELS}/cats/versions/1").json()
    assert seen["id"] == made.pk
    assert (seen["model"], seen["number"], seen["recipe"]) == ("cats", 1, "image-classifier")
    assert seen["signature"] == INTERFACE.signature.as_json()
    assert seen["preprocessing"] == {"kind": "picture", "height": 150, "width": 150, "scale": "1/255"}
    assert seen["labels"] == ["cat", "dog"]
    assert seen["decision"] == {"kind": "binary", "threshold": 0.5}
    assert seen["metrics"] == METRICS
    assert seen["files"]["model.keras"] == {"sha256": storage.blobs.digest_of(file).sha256, "size": 22}
    assert seen["lineage"] == {"job": None, "dataset": None, "dataset_sha256": ""}
    assert seen["manifest_sha256"] == artifacts.sha256_of(fresh(acme, made).manifest)
    assert acme_client.get(f"{MODELS}/cats").json()["latest"] == 1
    with scoping.operator():
        event = AuditEvent.across_tenants.get(verb="model_version.publish")
    assert (event.subject, event.detail) == ("cats@1", {"manifest_sha256": seen["manifest_sha256"]})


def test_models_and_versions_are_listed_newest_first(acme: Account, acme_client: APIClient, file: Path) -> None:
    for model in ("cats", "dogs", "cats"):
        publish(acme, file, model=model)
    assert [row["name"] for row in acme_client.get(MODELS).json()["results"]] == ["dogs", "cats"]
    assert [row["name"] for row in acme_client.get(MODELS, {"name": "cats"}).json()["results"]] == ["cats"]
    versions = acme_client.get(f"{MODELS}/cats/versions").json()["results"]
    assert [row["number"] for row in versions] == [2, 1]


def test_what_is_anothers_is_as_if_it_were_not_there(
    acme: Account, globex: Account, globex_client: APIClient, file: Path
) -> None:
    publish(acme, file)
    for path in ("cats", "cats/versions", "cats/versions/1"):
        foreign = globex_client.get(f"{MODELS}/{path}")
        nobodys = globex_client.get(f"{MODELS}/{path.replace('cats', 'owls')}")
        assert foreign.status_code == nobodys.status_code == 404
        assert foreign.json()["detail"].replace("cats", "owls") == nobodys.json()["detail"]
    assert globex_client.get(MODELS).json()["results"] == []
    assert publish(globex, file).number == 1


@pytest.mark.parametrize(
    "path", ["cats/versions/2", "cats/versions/0", "cats/versions/9999999999999", "cats/versions/x"]
)
def test_a_version_that_is_not_there_is_not_found(acme: Account, acme_client: APIClient, file: Path, path: str) -> None:
    publish(acme, file)
    assert acme_client.get(f"{MODELS}/{path}").status_code == 404


def test_a_version_never_changes(acme: Account, file: Path) -> None:
    version = publish(acme, file)
    with pytest.raises(DatabaseError, match="never changed"), scoping.operator():
        ModelVersion.across_tenants.filter(pk=version.pk).update(metrics={"accuracy": 1.0})


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_numbers_have_no_gaps_however_many_publish_at_once(acme: Account, tmp_path: Path) -> None:
    def work(number: int) -> None:
        file = tmp_path / f"model-{number}"
        file.write_bytes(f"weights {number}".encode())
        publish(acme, file)

    in_threads(work, 6)
    with scoping.operator():
        assert sorted(ModelVersion.across_tenants.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6]
        assert Model.across_tenants.get().latest == 6


def test_what_was_not_committed_leaves_no_number_behind(acme: Account, file: Path) -> None:
    with transaction.atomic():
        assert publish(acme, file).number == 1
        transaction.set_rollback(True)
    assert publish(acme, file).number == 1


def test_a_publishing_that_fails_leaves_no_file_behind(acme: Account, file: Path, places: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(acme, file, files={"a": file, "b": file.with_name("missing")})
    assert stored_files(places) == set()


def test_a_checked_file_is_the_one_that_was_published(acme: Account, file: Path) -> None:
    version = fresh(acme, publish(acme, file))
    for _ in range(2):
        assert checked_path(acme, version).read_bytes() == b"the weights of a model"


def altered(manifest: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    other = copy.deepcopy(manifest)
    change(other)
    return other


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(labels=["dog", "cat"]),
        lambda m: m["decision"].update(threshold=0.1),
        lambda m: m["serving"].update(file="model.keras"),
        lambda m: m["files"]["model.fp32.tflite"].update(sha256="0" * 64),
        lambda m: m.update(number=2),
        lambda m: m.update(extra=1),
        lambda m: m.pop("labels"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(acme: Account, file: Path, change: Any) -> None:
    version = publish(acme, file)
    with pytest.raises(Tampered, match="seal"):
        checked_path(acme, version, manifest=altered(version.manifest, change))


def test_a_seal_holds_for_one_tenant_and_one_key(
    acme: Account, globex: Account, file: Path, settings: Settings
) -> None:
    version = publish(acme, file)
    with pytest.raises(Tampered):
        checked_path(acme, version, tenant_id=globex.tenant.pk)
    with pytest.raises(Tampered):
        checked_path(acme, version, manifest_seal="0" * 64)
    settings.MANIFEST_KEY = "another"
    with pytest.raises(Tampered):
        checked_path(acme, version)


def test_a_file_that_was_changed_is_refused_even_if_it_was_right_before(acme: Account, file: Path) -> None:
    version = publish(acme, file)
    path = checked_path(acme, version)
    path.chmod(0o600)
    path.write_bytes(b"the weights of A model")
    with pytest.raises(Tampered, match=r"model\.fp32\.tflite of cats@1 has the sha256"):
        checked_path(acme, version)


def test_a_file_that_the_manifest_does_not_name_is_refused(acme: Account, file: Path) -> None:
    with pytest.raises(Tampered, match=r"has no file '\.\./secret'"):
        checked_path(acme, publish(acme, file), file="../secret")


def test_an_operator_sees_models_and_versions(acme: Account, file: Path, admin_client: Client) -> None:
    version = publish(acme, file)
    assert "cats@1" in admin_client.get("/admin/modelhub/modelversion/", {"q": "cats"}).content.decode()
    assert admin_client.get("/admin/modelhub/modelversion/", {"model__id__exact": version.model_id}).status_code == 200
    assert (
        version.manifest_sha256
        in admin_client.get(f"/admin/modelhub/modelversion/{version.pk}/change/").content.decode()
    )
    assert "cats" in admin_client.get("/admin/modelhub/model/").content.decode()
    assert admin_client.get("/admin/modelhub/modelversion/add/").status_code == 403
