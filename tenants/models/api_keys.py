"""API keys: only their sha256 is kept."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from tenants import ids
from tenants.models.scoped import TenantOwned


class ApiKey(TenantOwned):
    """A key of a tenant: found by the digest of its text, which is shown once and not kept."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.api_key, editable=False)
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=24, help_text="The first characters of the key, to recognise it by.")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=16))
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=120)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
