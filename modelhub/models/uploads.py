"""Uploads in parts: what was announced, and which parts of it are there."""

from django.db import models
from django.utils import timezone

from modelhub.models.datasets import Dataset
from tenants import ids
from tenants.models import TenantOwned


class UploadMode(models.TextChoices):
    """Whether an upload takes the place of what the data set holds, or is added to it."""

    REPLACE = "replace"
    ADD = "add"


class UploadState(models.TextChoices):
    """open until it is completed (or refused by the check), aborted by its customer, or expired."""

    OPEN = "open"
    COMPLETED = "completed"
    REJECTED = "rejected"
    ABORTED = "aborted"
    EXPIRED = "expired"


class DatasetUpload(TenantOwned):
    """A file that comes in parts. The parts lie in SCRATCH_DIR; once it is not open any more, nowhere."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.upload, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=16, choices=UploadState.choices, default=UploadState.OPEN)
    mode = models.CharField(max_length=8, choices=UploadMode.choices, default=UploadMode.REPLACE)
    media_type = models.CharField(max_length=80)
    length = models.PositiveBigIntegerField(help_text="bytes of the whole")
    sha256 = models.CharField(max_length=64, blank=True, help_text="of the whole, as announced; empty if it was not")
    checked_until = models.DateTimeField(null=True, help_text="A check that is under way has told of itself till then.")
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(help_text="when it is forgotten if no other part comes")
    ended_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes = [models.Index(fields=["expires_at"], condition=models.Q(state="open"), name="uploads_to_expire")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ended_at=None, state="open")
                | models.Q(ended_at__isnull=False) & ~models.Q(state="open"),
                name="upload_ended_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"


class DatasetUploadPart(TenantOwned):
    """A part that is there: its file is named by its number and sha256."""

    upload = models.ForeignKey(DatasetUpload, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    received_at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["upload", "number"], name="one_part_a_number")]

    def __str__(self) -> str:
        return f"part {self.number} of {self.upload_id}"
