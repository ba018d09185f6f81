"""API keys: only their sha256 is kept."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
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
    networks = ArrayField(
        models.CharField(max_length=49),
        null=True,
        blank=True,
        help_text="It works from these only, as 192.0.2.0/24, 2001:db8::/32; from anywhere if empty.",
    )
    deployments = ArrayField(
        models.CharField(max_length=60),
        null=True,
        blank=True,
        help_text="It may call the deployments of these names only; all if empty.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=120)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To a minute or two.")
    replaces = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="successor", help_text="The key it was rotated from"
    )

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.CheckConstraint(condition=~Q(networks=[]), name="networks_are_some_or_any"),
            models.CheckConstraint(condition=~Q(deployments=[]), name="deployments_are_some_or_all"),
            # Who manages a deployment may have it serve anything: a list would confine nobody.
            models.CheckConstraint(
                condition=Q(deployments=None) | ~Q(scopes__contains=["manage"]), name="who_manages_calls_all"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def replaced_by(self) -> "ApiKey | None":
        """Its successor; costs no query where the row came with it (`select_related("successor")`)."""
        return getattr(self, "successor", None)
