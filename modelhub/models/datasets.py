"""Data sets: uploaded, checked item by item, then sealed."""

from django.db import models
from django.utils import timezone

from tenants import ids
from tenants.models import TenantOwned


class DatasetKind(models.TextChoices):
    """What the items are."""

    IMAGE_CLASSIFICATION = "image-classification"
    SPEECH = "speech"
    TEXT_CLASSIFICATION = "text-classification"
    TRANSLATION = "translation"
    TABLE = "table"


class DatasetState(models.TextChoices):
    """created → uploading → checked (or rejected) → sealed; a new upload may follow checked and rejected."""

    CREATED = "created"
    UPLOADING = "uploading"
    CHECKED = "checked"
    REJECTED = "rejected"
    SEALED = "sealed"


class Dataset(TenantOwned):
    """A customer's data. Once sealed it never changes."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.dataset, editable=False)
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=32, choices=DatasetKind.choices)
    state = models.CharField(max_length=16, choices=DatasetState.choices, default=DatasetState.CREATED)
    split = models.JSONField(default=dict, help_text="how it is to be divided: by, validation, seed, column")
    columns = models.JSONField(default=dict, help_text="the types of a table's columns that were given, by name")
    upload_id = models.CharField(max_length=ids.MAX_LENGTH, blank=True, help_text="The upload that may finish.")
    progress = models.JSONField(default=dict, help_text="phase, done, total of the upload under way")
    report = models.JSONField(null=True, help_text="What the check found: counts, and each bad file by name.")
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    items = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0, help_text="bytes of all items")
    created_at = models.DateTimeField(default=timezone.now)
    sealed_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_dataset_a_name")]

    def __str__(self) -> str:
        return self.name
