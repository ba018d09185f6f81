"""The end of a tenant: its data key is destroyed, and with it everything that it has stored, wherever copies lie."""

from dataclasses import dataclass
from datetime import datetime

from modelhub import storage
from modelhub.datasets import retention
from modelhub.models import Dataset
from modelhub.storage import blobs, keys
from tenants import accounts, audit
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Erased:
    """How much was erased."""

    datasets: int
    files: int
    size: int


def erase_tenant(*, tenant: Tenant, actor: str, now: datetime) -> Erased:
    """Suspends a tenant for good and erases what it has stored: data sets, files of models, results, checkpoints.

    Rows stay: bills, the audit trail, and what versions were made of. In operator scope; erasing twice erases nothing.
    """
    accounts.suspend(tenant=tenant, actor=actor)
    keys.destroy(tenant_id=tenant.pk, now=now)
    storage.checkpoints.drop_all(tenant_id=tenant.pk)
    datasets = list(Dataset.objects.for_tenant(tenant).filter(erased_at=None))
    for dataset in datasets:
        retention.erase(dataset=dataset, actor=actor, now=now)
    rows = dict(blobs.live(tenant.pk).values_list("sha256", "size"))
    storage.erase_all(tenant_id=tenant.pk, digests=rows, now=now)
    done = Erased(datasets=len(datasets), files=len(rows), size=sum(rows.values()))
    audit.record(
        tenant=tenant, actor=actor, verb="tenant.erase", subject=tenant.pk, datasets=done.datasets, files=done.files,
        size=done.size,
    )  # fmt: skip
    return done
