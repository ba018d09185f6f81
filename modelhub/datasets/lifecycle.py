"""The verbs create, get, seal and delete."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from modelhub import storage
from modelhub.datasets.splits import Split
from modelhub.models import BlobUse, Dataset, DatasetState, ModelVersion, TrainingJob
from modelhub.storage.blobs import batches
from tenants import audit
from tenants.errors import Conflict, FieldError, NotFound
from tenants.models import Tenant


def create(
    *,
    tenant: Tenant,
    name: str,
    kind: str,
    split: Split | None = None,
    columns: Mapping[str, str] | None = None,
    actor: str,
    now: datetime,
) -> Dataset:
    """An empty data set, ready for an upload, that will be divided so; a table's columns may be given their types."""
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                tenant=tenant, name=name, kind=kind, created_at=now,
                split=split.as_json() if split else {}, columns=dict(columns or {}),
            )  # fmt: skip
    except IntegrityError as error:
        raise Conflict(
            f"There is a data set {name!r} already.", errors=(FieldError("name", "Expected a name not in use."),)
        ) from error
    audit.record(tenant=tenant, actor=actor, verb="dataset.create", subject=dataset.pk, name=name, kind=kind)
    return dataset


def get(*, tenant: Tenant | str, dataset_id: str) -> Dataset:
    """The tenant's data set of this id."""
    row = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).first()
    if row is None:
        raise NotFound(f"There is no data set {dataset_id!r}.")
    return row


def seal(*, dataset: Dataset, actor: str, now: datetime) -> Dataset:
    """Closes a checked data set for good: from now on it never changes. Sealing twice changes nothing."""
    rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk)
    if rows.filter(state=DatasetState.CHECKED).update(state=DatasetState.SEALED, sealed_at=now):
        audit.record(
            tenant=dataset.tenant_id,
            actor=actor,
            verb="dataset.seal",
            subject=dataset.pk,
            manifest_sha256=rows.values_list("manifest_sha256", flat=True).get(),
        )
    dataset = get(tenant=dataset.tenant_id, dataset_id=dataset.pk)
    if dataset.state != DatasetState.SEALED:
        raise Conflict(f"The data set {dataset.name!r} is {dataset.state}; only a checked one can be sealed.")
    return dataset


def delete(*, dataset: Dataset, actor: str, now: datetime) -> None:
    """Removes a data set that nothing was made of, and its files that no other data set holds."""
    rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk)
    locked = rows.select_for_update().first()
    if locked is None:
        raise NotFound(f"There is no data set {dataset.pk!r}.")
    if user := _user_of(locked):
        raise Conflict(f"The data set {locked.name!r} is used by {user}; what was made of it must stay explained.")
    held = replace_uses(dataset=locked, digests=())
    try:
        locked.delete()
    except ProtectedError as error:
        users = ", ".join(sorted({f"{row._meta.verbose_name} {row.pk}" for row in error.protected_objects})[:3])
        raise Conflict(
            f"The data set {locked.name!r} is used by {users}; what was made of it must stay explained."
        ) from error
    erase_unused(tenant_id=dataset.tenant_id, digests=held, now=now)
    audit.record(
        tenant=dataset.tenant_id,
        actor=actor,
        verb="dataset.delete",
        subject=dataset.pk,
        name=locked.name,
        manifest_sha256=locked.manifest_sha256,
    )


def replace_uses(*, dataset: Dataset, digests: Iterable[str]) -> set[str]:
    """From now on the data set holds these stored files and no others; gives those that it held before."""
    uses = BlobUse.objects.for_tenant(dataset.tenant_id)
    before = uses.filter(dataset=dataset)
    held = set(before.values_list("sha256", flat=True))
    before.delete()
    uses.bulk_create(
        [BlobUse(tenant_id=dataset.tenant_id, dataset=dataset, sha256=sha256) for sha256 in digests], batch_size=5000
    )
    return held


def erase_unused(*, tenant_id: str, digests: Iterable[str], now: datetime) -> None:
    """Erases those of these stored files that no data set and no model version holds."""
    storage.lock(tenant_id=tenant_id, now=now)
    kept = _files_of_versions(tenant_id)
    for some in batches(digests):
        kept.update(
            BlobUse.objects.for_tenant(tenant_id).filter(sha256__in=some).values_list("sha256", flat=True).distinct()
        )
    unused = [sha256 for sha256 in digests if sha256 not in kept]
    if unused:
        storage.erase_all(tenant_id=tenant_id, digests=unused, now=now)


def _files_of_versions(tenant_id: str) -> set[str]:
    manifests = ModelVersion.objects.for_tenant(tenant_id).values_list("manifest__files", flat=True)
    return {file["sha256"] for files in manifests for file in (files or {}).values()}


def _user_of(dataset: Dataset) -> str | None:
    """What was made of the data set, in words."""
    version = ModelVersion.objects.for_tenant(dataset.tenant_id).select_related("model").filter(dataset=dataset).first()
    if version is not None:
        return f"the model version {version}"
    job = TrainingJob.objects.for_tenant(dataset.tenant_id).filter(dataset=dataset).first()
    return None if job is None else f"the training job {job.pk}"
