"""Stored bytes: content-addressed by sha256, once per tenant."""

from django.db import models
from django.utils import timezone

from modelhub.models.datasets import Dataset
from tenants.models import Tenant, TenantOwned


class Blob(TenantOwned):
    """A stored file of a tenant. The row outlives the file until its byte-hours are in the ledger."""

    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()
    stored_at = models.DateTimeField(default=timezone.now)
    erased_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "sha256"], condition=models.Q(erased_at=None), name="one_blob_a_content"
            )
        ]

    def __str__(self) -> str:
        return self.sha256


class DataKey(models.Model):
    """What a tenant's stored files are encrypted with, itself encrypted by the master key; empty once destroyed."""

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, primary_key=True, related_name="+")
    wrapped = models.BinaryField(max_length=80)
    created_at = models.DateTimeField(default=timezone.now)
    destroyed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(destroyed_at=None) & ~models.Q(wrapped=b"")
                | models.Q(destroyed_at__isnull=False, wrapped=b""),
                name="key_until_it_is_destroyed",
            )
        ]

    def __str__(self) -> str:
        return f"data key of {self.tenant_id}"


class BlobUse(TenantOwned):
    """That a data set holds a stored file: the file is erased with the last of its uses."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="+")
    sha256 = models.CharField(max_length=64)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["dataset", "sha256"], name="one_use_a_dataset")]
        indexes = [models.Index(fields=["tenant", "sha256"], name="uses_of_a_blob")]

    def __str__(self) -> str:
        return f"{self.dataset_id} holds {self.sha256}"


class StorageAccrual(models.Model):
    """Up to when a tenant's stored byte-hours are in the ledger; whoever stores or erases locks this row."""

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, primary_key=True, related_name="+")
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.tenant_id} until {self.until:%Y-%m-%d %H:%M}"
