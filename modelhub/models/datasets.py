"""Data sets: uploaded, checked item by item, then sealed."""

from typing import Any

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
    """created → uploading → checked (or rejected) → sealed → erased; a new upload may follow checked and rejected."""

    CREATED = "created"
    UPLOADING = "uploading"
    CHECKED = "checked"
    REJECTED = "rejected"
    SEALED = "sealed"
    ERASED = "erased"


class Dataset(TenantOwned):
    """A version of a customer's data: once sealed its content never changes; the versions of a family share a name."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.dataset, editable=False)
    name = models.CharField(max_length=80)
    family = models.CharField(
        max_length=ids.MAX_LENGTH, blank=True, editable=False, help_text="id of its first version"
    )
    number = models.PositiveIntegerField(default=1, help_text="of the version, in the order in which they were begun")
    latest = models.PositiveIntegerField(default=1, help_text="the newest number that its family has given")
    parent = models.CharField(max_length=ids.MAX_LENGTH, blank=True, help_text="id of the version that it came from")
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
    licence = models.CharField(max_length=100, blank=True, help_text="under which the data may be used")
    source = models.CharField(max_length=500, blank=True, help_text="where the data come from")
    notes = models.TextField(max_length=4000, blank=True)
    retain_until = models.DateTimeField(null=True, help_text="when its content is erased")
    created_at = models.DateTimeField(default=timezone.now)
    sealed_at = models.DateTimeField(null=True)
    erased_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name", "number"], name="one_dataset_a_name_and_number"),
            models.CheckConstraint(
                condition=models.Q(erased_at=None) & ~models.Q(state="erased")
                | models.Q(erased_at__isnull=False, state="erased"),
                name="erased_at_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "family"], name="versions_of_a_family"),
            models.Index(fields=["retain_until"], condition=models.Q(erased_at=None), name="datasets_to_erase"),
        ]

    def __str__(self) -> str:
        return self.name if self.number == 1 else f"{self.name}@{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """The first version of a family gives it its id."""
        self.family = self.family or self.pk
        super().save(*args, **kwargs)
