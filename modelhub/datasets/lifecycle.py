"""The verbs create, get, change, seal and delete."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from modelhub import storage
from modelhub.datasets import scratch
from modelhub.datasets.splits import Split
from modelhub.models import BlobUse, Dataset, DatasetState, DatasetUpload, ModelVersion, TrainingJob
from modelhub.storage.blobs import batches
from tenants import audit
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.models import Tenant

# Gives those of these files of a tenant that something else holds.
Holder = Callable[[str, list[str]], set[str]]
_holders: list[Holder] = []


def know_holder(holder: Holder) -> None:
    """From now on this one is asked, too, before a stored file is erased."""
    _holders.append(holder)


def create(
    *,
    tenant: Tenant,
    name: str,
    kind: str,
    split: Split | None = None,
    columns: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    actor: str,
    now: datetime,
) -> Dataset:
    """The first version of a data set, empty, ready for an upload, that will be divided so.

    A table's columns may be given their types; `about` is what `change` takes.
    """
    facts: Any = _checked(about or {}, now)
    taken = Conflict(
        f"There is a data set {name!r} already.", errors=(FieldError("name", "Expected a name not in use."),)
    )
    if Dataset.objects.for_tenant(tenant).filter(name=name).exists():
        raise taken
    try:
        with transaction.atomic():
            dataset = Dataset(tenant=tenant, name=name, kind=kind, created_at=now, **facts)
            dataset.split = split.as_json() if split else {}
            dataset.columns = dict(columns or {})
            dataset.save(force_insert=True)
    except IntegrityError as error:
        raise taken from error
    audit.record(
        tenant=tenant, actor=actor, verb="dataset.create", subject=dataset.pk, name=name, kind=kind, **_told(facts)
    )
    return dataset


def get(*, tenant: Tenant | str, dataset_id: str) -> Dataset:
    """The tenant's data set of this id."""
    row = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).first()
    if row is None:
        raise NotFound(f"There is no data set {dataset_id!r}.")
    return row


def change(*, dataset: Dataset, about: Mapping[str, Any], actor: str, now: datetime) -> Dataset:
    """Sets what is said about a version: licence, source, notes, retain_until. Its content stays what it is."""
    facts = _checked(about, now)
    rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk)
    if facts:
        if not rows.exclude(state=DatasetState.ERASED).update(**facts):
            raise Conflict(f"The data set {dataset.name!r} is {dataset.state}: nothing about it changes any more.")
        audit.record(
            tenant=dataset.tenant_id, actor=actor, verb="dataset.change", subject=dataset.pk, **_told(facts)
        )  # fmt: skip
    return get(tenant=dataset.tenant_id, dataset_id=dataset.pk)


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
        raise Conflict(f"The data set {str(dataset)!r} is {dataset.state}; only a checked one can be sealed.")
    return dataset


def delete(*, dataset: Dataset, actor: str, now: datetime) -> None:
    """Removes a data set that nothing was made of, and its files that no other data set holds."""
    rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk)
    locked = rows.select_for_update().first()
    if locked is None:
        raise NotFound(f"There is no data set {dataset.pk!r}.")
    if user := _user_of(locked):
        raise Conflict(f"The data set {str(locked)!r} is used by {user}; what was made of it must stay explained.")
    held = replace_uses(dataset=locked, digests=())
    uploads = list(
        DatasetUpload.objects.for_tenant(dataset.tenant_id).filter(dataset=locked).values_list("pk", flat=True)
    )
    try:
        locked.delete()
    except ProtectedError as error:
        users = ", ".join(sorted({f"{row._meta.verbose_name} {row.pk}" for row in error.protected_objects})[:3])
        raise Conflict(
            f"The data set {str(locked)!r} is used by {users}; what was made of it must stay explained."
        ) from error
    erase_unused(tenant_id=dataset.tenant_id, digests=held, now=now)
    transaction.on_commit(partial(scratch.remove_parts, uploads), robust=True)
    audit.record(
        tenant=dataset.tenant_id,
        actor=actor,
        verb="dataset.delete",
        subject=dataset.pk,
        name=locked.name,
        number=locked.number,
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
    """Erases those of these stored files that no data set, no model version and none of the known holders holds."""
    storage.lock(tenant_id=tenant_id, now=now)
    kept = _files_of_versions(tenant_id)
    for some in batches(digests):
        for holder in _holders:
            kept |= holder(tenant_id, some)
        kept.update(
            BlobUse.objects.for_tenant(tenant_id).filter(sha256__in=some).values_list("sha256", flat=True).distinct()
        )
    unused = [sha256 for sha256 in digests if sha256 not in kept]
    if unused:
        storage.erase_all(tenant_id=tenant_id, digests=unused, now=now)


def _checked(about: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    until = about.get("retain_until")
    if until is not None and until <= now:
        raise Invalid(
            f"retain_until is {until.isoformat()}; expected a time that is still to come.",
            errors=(FieldError("retain_until", "Expected a time that is still to come."),),
        )
    return dict(about)


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in about.items()}


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
