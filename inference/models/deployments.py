"""Deployments: the name that a client calls, and the version that answers."""

from django.db import models
from django.utils import timezone

from modelhub.models import ModelVersion
from tenants import ids
from tenants.models import TenantOwned


class Deployment(TenantOwned):
    """A name under which one version of a model is served."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.deployment, editable=False)
    name = models.CharField(max_length=60)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_deployment_a_name")]

    def __str__(self) -> str:
        return self.name
