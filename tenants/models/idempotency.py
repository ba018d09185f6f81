"""Answers kept for retries that carry the same Idempotency-Key."""

from django.db import models
from django.utils import timezone

from tenants.models.scoped import TenantOwned


class IdempotentAnswer(TenantOwned):
    """The answer of a POST, given again to a retry with the same key, caller and request."""

    caller = models.CharField(max_length=120)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["tenant", "caller", "key"], name="one_answer_a_key")]

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"
