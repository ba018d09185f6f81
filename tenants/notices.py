"""Notices: what a tenant wants to hear of, written down in the transaction in which it happens (an outbox)."""

from typing import Any

from tenants.models import Notice, Tenant

KINDS = (
    "usage.threshold_reached",
    "invoice.issued",
    "training_job.ended",
    "evaluation.ended",
    "batch_prediction.ended",
    "api_key.leaked",
    "deployment.rolled_back",
)


def announce(*, tenant: Tenant | str, kind: str, once: str, **data: Any) -> bool:
    """Adds a notice unless this has been told of; whether it is new. Needs the tenant's scope, or the operator's.

    `once` names what happened (the id of a job, or of a bucket with its threshold); `data` goes out as JSON.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of notice; expected one of {', '.join(KINDS)}")
    tenant_id = tenant if isinstance(tenant, str) else tenant.pk
    if Notice.objects.for_tenant(tenant_id).filter(kind=kind, once=once).exists():
        return False
    notice = Notice(tenant_id=tenant_id, kind=kind, once=once, data=data)
    Notice.across_tenants.bulk_create([notice], ignore_conflicts=True)
    return Notice.objects.for_tenant(tenant_id).filter(pk=notice.pk).exists()
