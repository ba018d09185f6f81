"""The verb derive: a new version of a sealed data set, which shares the files of the one that it comes from."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from modelhub import storage
from modelhub.datasets import checking, lifecycle, revisions
from modelhub.datasets.checking import Report
from modelhub.datasets.manifests import Manifest, load_manifest
from modelhub.models import Dataset, DatasetState
from tenants import audit
from tenants.errors import Conflict, NotFound

INHERITED = ("kind", "name", "family", "split", "columns", "licence", "source", "notes", "retain_until")


def of_family(*, dataset: Dataset) -> QuerySet[Dataset]:
    """All versions that there are of a data set."""
    return Dataset.objects.for_tenant(dataset.tenant_id).filter(family=dataset.family)


def derive(
    *, parent: Dataset, remove: Iterable[str], about: Mapping[str, Any] | None = None, actor: str, now: datetime
) -> Dataset:
    """The next version of a family, open for uploads and for sealing: a sealed version without these items.

    It holds the same stored files. Whatever else it inherits, `about` may say otherwise. Call it in a transaction of
    the tenant.
    """
    family = _locked_family(parent)
    names = tuple(remove)
    manifest = load_manifest(family[parent.pk])
    dataset = _draft(family[parent.pk], now)
    with storage.Staging(tenant_id=dataset.tenant_id) as staging:
        if names:
            manifest = revisions.without(manifest, names, staging=staging)
        _fill(dataset, manifest, staging, report=None if names else family[parent.pk].report)
        staging.record(now=now)
        audit.record(
            tenant=dataset.tenant_id, actor=actor, verb="dataset.derive", subject=dataset.pk, parent=parent.pk,
            number=dataset.number, removed=len(set(names)), items=dataset.items,
            manifest_sha256=dataset.manifest_sha256,
        )  # fmt: skip
        if about:
            dataset = lifecycle.change(dataset=dataset, about=about, actor=actor, now=now)
        staging.move_in(now=now)
    return dataset


def _locked_family(parent: Dataset) -> dict[str, Dataset]:
    """The versions of the family, which nobody deletes, erases or adds to before this transaction ends."""
    family = {row.pk: row for row in of_family(dataset=parent).order_by("pk").select_for_update()}
    if parent.pk not in family:
        raise NotFound(f"There is no data set {parent.pk!r}.")
    if (state := family[parent.pk].state) != DatasetState.SEALED:
        raise Conflict(
            f"The data set {str(parent)!r} is {state}; a new version is made of a sealed one. "
            "One that can still be sealed takes uploads itself."
        )
    return family


def _draft(parent: Dataset, now: datetime) -> Dataset:
    """The next version, empty. Numbers are given once, even where the version that had one is gone."""
    number = parent.latest + 1
    of_family(dataset=parent).update(latest=number)
    inherited = {name: getattr(parent, name) for name in INHERITED}
    return Dataset(
        tenant_id=parent.tenant_id, number=number, latest=number, parent=parent.pk, created_at=now, **inherited
    )


def _fill(dataset: Dataset, manifest: Manifest, staging: storage.Staging, *, report: dict[str, Any] | None) -> None:
    """Gives a new version its content: nothing is stored but the manifest, and parts that have fewer rows."""
    report = report or _judged(manifest, staging)
    content = staging.add(manifest.as_bytes())
    dataset.state = DatasetState.REJECTED if report["reasons"] else DatasetState.CHECKED
    dataset.report = report
    dataset.manifest_sha256 = content.sha256
    dataset.items, dataset.size = manifest.rows(), sum(item.size for item in manifest.items)
    dataset.save(force_insert=True)
    lifecycle.replace_uses(dataset=dataset, digests={content.sha256, *(item.sha256 for item in manifest.items)})


def _judged(manifest: Manifest, staging: storage.Staging) -> dict[str, Any]:
    report = Report()
    checking.judge(manifest, report, staging=staging)
    return report.as_json()
