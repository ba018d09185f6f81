"""Retention: the content of a version is erased at its date, or earlier by hand; its row stays and says what it was."""

from datetime import datetime

from modelhub.datasets import lifecycle, parts
from modelhub.models import Dataset, DatasetState
from tenants import audit, scoping
from tenants.errors import Conflict

ACTOR = "service:retention"


def erase(*, dataset: Dataset, actor: str, now: datetime) -> Dataset:
    """Erases the content of a version: its files that no other version holds, its manifest, names in its report.

    What was made of it stays explained by the manifest's sha256. Call it in a transaction.
    """
    rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk)
    locked = rows.select_for_update().first()
    if locked is None or locked.state == DatasetState.ERASED:
        raise Conflict(f"The data set {str(dataset)!r} has been erased already, or deleted.")
    rows.update(state=DatasetState.ERASED, erased_at=now, report=None, progress={}, upload_id="")
    held = lifecycle.replace_uses(dataset=locked, digests=())
    lifecycle.erase_unused(tenant_id=dataset.tenant_id, digests=held, now=now)
    parts.end_all(dataset=locked, now=now)
    audit.record(
        tenant=dataset.tenant_id, actor=actor, verb="dataset.erase", subject=dataset.pk, name=locked.name,
        number=locked.number, manifest_sha256=locked.manifest_sha256, items=locked.items,
    )  # fmt: skip
    return lifecycle.get(tenant=dataset.tenant_id, dataset_id=dataset.pk)


def erase_expired(*, now: datetime) -> int:
    """Erases every version whose date has come, each in a transaction of its own; how many. Any process may call it."""
    with scoping.operator():
        due = list(Dataset.across_tenants.filter(erased_at=None, retain_until__lte=now).order_by("retain_until"))
    return sum(_erase_if_due(dataset, now) for dataset in due)


def _erase_if_due(dataset: Dataset, now: datetime) -> bool:
    with scoping.operator():
        rows = Dataset.objects.for_tenant(dataset.tenant_id).filter(pk=dataset.pk, erased_at=None)
        # Its date may have been moved, or another process may be at it.
        row = rows.filter(retain_until__lte=now).select_for_update(skip_locked=True).first()
        if row is None:
            return False
        erase(dataset=row, actor=ACTOR, now=now)
    return True
