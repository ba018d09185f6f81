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
    """Adds the next version of a model, and the model if it is the first; call it inside the tenant's scope.

    The files are stored first, so that a version never names one that is not there; publishers of one model wait for
    each other at its row, so that its numbers have no gaps.
    """
    stored = {name: storage.put(tenant_id=tenant_id, source=path, now=now) for name, path in files.items()}
    Model.objects.for_tenant(tenant_id).bulk_create(
        [Model(tenant_id=tenant_id, name=model_name, created_at=now)], ignore_conflicts=True
    )
    model = Model.objects.for_tenant(tenant_id).select_for_update().get(name=model_name)
    model.latest += 1
    model.save(update_fields=["latest"])
    manifest = {
        "format": FORMAT,
        "model": model_name,
        "number": model.latest,
        "recipe": recipe,
        "files": {name: {"sha256": blob.sha256, "size": blob.size} for name, blob in stored.items()},
        "serving": dict(serving),
        "signature": signature.as_json(),
        "preprocessing": dict(preprocessing),
        "labels": labels,
        "decision": dict(decision),
        "conversion": dict(conversion),
    }
    version = ModelVersion.objects.create(
        tenant_id=tenant_id,
        model=model,
        number=model.latest,
        recipe=recipe,
        manifest=manifest,
        manifest_sha256=artifacts.sha256_of(manifest),
        manifest_seal=artifacts.seal(tenant_id=tenant_id, manifest=manifest),
        metrics=dict(metrics),
        parameters=dict(parameters),
        job=job,
        dataset=dataset,
        dataset_sha256=dataset.manifest_sha256 if dataset else "",
        created_at=now,
    )
    audit.record(
        tenant=tenant_id,
        actor=actor,
        verb="model_version.publish",
        subject=str(version),
        manifest=version.manifest_sha256,
    )
    return version


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
