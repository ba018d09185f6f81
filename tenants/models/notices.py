"""What a tenant is told of: rows written with the change itself, sent to its webhooks afterwards."""

from django.db import models
from django.utils import timezone

from tenants import ids
from tenants.models.scoped import TenantOwned


class Notice(TenantOwned):
    """One thing that happened; `once` is what it is about, so that it is told of once however often it is noticed."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.notice, editable=False)
    kind = models.CharField(max_length=60, help_text="`noun.verb`, as `invoice.issued`")
    once = models.CharField(max_length=200)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    dispatched_at = models.DateTimeField(null=True, blank=True, help_text="when its deliveries were written down")

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["tenant", "kind", "once"], name="one_notice_a_thing")]
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(dispatched_at=None), name="notices_to_dispatch")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.once}"
