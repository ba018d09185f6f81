"""The registry: versions of models are published here, once and for good."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from modelhub import artifacts, storage
from modelhub.models import Dataset, Model, ModelVersion, TrainingJob
from modelhub.signatures import Signature
from tenants import audit
from tenants.errors import NotFound
from tenants.models import Tenant

FORMAT = 1


def publish(
    *,
    tenant_id: str,
    model_name: str,
    recipe: str,
    files: Mapping[str, Path],
    serving: Mapping[str, Any],
    signature: Signature,
    preprocessing: Mapping[str, Any],
    labels: list[str],
    decision: Mapping[str, Any],
    metrics: Mapping[str, Any],
    parameters: Mapping[str, Any],
    conversion: Mapping[str, Any],
    job: TrainingJob | None = None,
    dataset: Dataset | None = None,
    actor: str,
    now: datetime,
) -> ModelVersion:
    """Adds the next version of a model, and the model if it is the first, in a transaction that sees the tenant.

    The files are stored with it or not at all. Publishers of one model wait for each other at its row, so that its
    numbers have no gaps.
    """
    with storage.Staging(tenant_id=tenant_id) as staging:
        stored = {name: staging.add(path) for name, path in files.items()}
        staging.record(now=now)
        about = {
            "format": FORMAT,
            "model": model_name,
            "recipe": recipe,
            "files": {name: {"sha256": blob.sha256, "size": blob.size} for name, blob in stored.items()},
            "serving": dict(serving),
            "signature": signature.as_json(),
            "preprocessing": dict(preprocessing),
            "labels": labels,
            "decision": dict(decision),
            "conversion": dict(conversion),
            "provenance": _provenance(dataset),
        }
        version = ModelVersion(
            tenant_id=tenant_id,
            recipe=recipe,
            metrics=dict(metrics),
            parameters=dict(parameters),
            job=job,
            dataset=dataset,
            dataset_sha256=dataset.manifest_sha256 if dataset else "",
            created_at=now,
        )
        _number(version, about)
        audit.record(
            tenant=tenant_id,
            actor=actor,
            verb="model_version.publish",
            subject=str(version),
            manifest_sha256=version.manifest_sha256,
        )
        staging.move_in(now=now)
    return version


def _provenance(dataset: Dataset | None) -> dict[str, Any] | None:
    """What the version inherits of the data set that it was made of, as it is known now."""
    if dataset is None:
        return None
    rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk)
    return dict(rows.values("name", "number", "licence", "source", "notes").get())


def _number(version: ModelVersion, about: Mapping[str, Any]) -> None:
    """Saves a version with its model's next number and the sealed manifest."""
    models = Model.objects.for_tenant(version.tenant_id)
    models.bulk_create(
        [Model(tenant_id=version.tenant_id, name=about["model"], created_at=version.created_at)], ignore_conflicts=True
    )
    version.model = models.select_for_update().get(name=about["model"])
    version.model.latest += 1
    version.model.save(update_fields=["latest"])
    version.number = version.model.latest
    version.manifest = {**about, "number": version.number}
    version.manifest_sha256 = artifacts.sha256_of(version.manifest)
    version.manifest_seal = artifacts.seal(tenant_id=version.tenant_id, manifest=version.manifest)
    version.save(force_insert=True)


def model(*, tenant: Tenant, name: str) -> Model:
    """The tenant's model of this name."""
    row = Model.objects.for_tenant(tenant).filter(name=name).first()
    if row is None:
        raise NotFound(f"There is no model {name!r}.")
    return row


def version(*, tenant: Tenant, model_name: str, number: int) -> ModelVersion:
    """A version of the tenant's model."""
    row = (
        ModelVersion.objects.for_tenant(tenant)
        .select_related("model")
        .filter(model__name=model_name, number=number)
        .first()
    )
    if row is None:
        raise NotFound(f"There is no version {number} of a model {model_name!r}.")
    return row
