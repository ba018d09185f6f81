"""The registry: models, and versions that never change."""

from django.db import models
from django.utils import timezone

from modelhub.models.datasets import Dataset
from modelhub.models.training import TrainingJob
from tenants import ids
from tenants.models import TenantOwned


class Model(TenantOwned):
    """A name under which versions are kept."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.model, editable=False)
    name = models.CharField(max_length=60)
    latest = models.PositiveIntegerField(default=0, help_text="number of the newest version")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_model_a_name")]

    def __str__(self) -> str:
        return self.name


class ModelVersion(TenantOwned):
    """A trained model, immutable (a trigger in the database refuses a change): files, signature, metrics, lineage."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.version, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="+")
    number = models.PositiveIntegerField()
    recipe = models.CharField(max_length=40)
    manifest = models.JSONField(help_text="files, signature, preprocessing, labels: what a server needs to serve it")
    manifest_sha256 = models.CharField(max_length=64)
    manifest_seal = models.CharField(max_length=64, help_text="HMAC-SHA256 of the manifest with the service's key")
    metrics = models.JSONField(default=dict, help_text="on the validation split")
    parameters = models.JSONField(default=dict)
    job = models.ForeignKey(TrainingJob, null=True, on_delete=models.PROTECT, related_name="+")
    dataset = models.ForeignKey(Dataset, null=True, on_delete=models.PROTECT, related_name="+")
    dataset_sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["model", "number"], name="one_version_a_number")]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.number}"
