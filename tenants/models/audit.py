"""Who did what: rows that are only ever added."""

from django.db import models
from django.utils import timezone

from tenants import ids
from tenants.models.scoped import TenantOwned


class AuditEvent(TenantOwned):
    """One verb of the control plane, written in the transaction that carried it out."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.audit_event, editable=False)
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=120)
    verb = models.CharField(max_length=60)
    subject = models.CharField(max_length=120)
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.verb} {self.subject}"
