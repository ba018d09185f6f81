"""The audit trail: each verb leaves a row in the transaction that carries it out.

The database links the rows of a tenant into a chain when the transaction commits (`audit_chain.py` says how).
"""

from typing import Any

from tenants import origin
from tenants.models import AuditEvent, OperatorEvent, Tenant

SUBJECT_LENGTH = 120


def record(*, tenant: Tenant | str, actor: str, verb: str, subject: str, **detail: Any) -> None:
    """Adds a row. `verb` is `noun.verb` (`api_key.revoke`), `subject` the public id or name it was done to."""
    tenant_id = tenant if isinstance(tenant, str) else tenant.pk
    AuditEvent.objects.create(tenant_id=tenant_id, actor=actor, verb=verb, subject=subject, detail=detail, **_origin())


def record_of_operators(*, actor: str, verb: str, subject: str, **detail: Any) -> None:
    """Adds a row to the operators' own chain, in their scope: what was done to no one tenant, such as to prices."""
    OperatorEvent.objects.create(actor=actor, verb=verb, subject=subject[:SUBJECT_LENGTH], detail=detail, **_origin())


def _origin() -> Any:
    """The columns of a row that say from where."""
    where = origin.current()
    return {
        "address": where.address,
        "forwarded_for": where.forwarded_for,
        "user_agent": where.user_agent,
        "request_id": where.request_id,
    }
