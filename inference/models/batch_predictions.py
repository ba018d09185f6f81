"""Batch predictions: rows are the queue, as those of training jobs are."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from modelhub.models import Dataset, JobState, ModelVersion
from tenants import ids
from tenants.models import TenantOwned


class BatchPrediction(TenantOwned):
    """A sealed data set through one version; a worker holds the job by a lease that its heartbeat renews.

    `checkpoint_bytes` of the results, whose sha256 is `checkpoint_sha256`, are on a worker's disk and hold the lines of
    `rows_done` rows; whoever takes the job over goes on from there if it has them, and else begins anew.
    """

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.batch_prediction, editable=False)
    deployment_name = models.CharField(max_length=60, help_text="which may be gone by now")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=16, choices=JobState.choices, default=JobState.QUEUED)
    rows_total = models.PositiveIntegerField()
    rows_done = models.PositiveIntegerField(default=0, help_text="those that failed among them")
    rows_failed = models.PositiveIntegerField(default=0)
    checkpoint_bytes = models.PositiveBigIntegerField(default=0)
    checkpoint_sha256 = models.CharField(max_length=64, blank=True)
    result_sha256 = models.CharField(max_length=64, blank=True)
    result_size = models.PositiveBigIntegerField(default=0, help_text="bytes")
    error = models.TextField(blank=True, help_text="Why it failed, for the customer.")
    budget = models.DecimalField(max_digits=38, decimal_places=12, null=True, help_text="The most that it may cost.")
    budget_currency = models.CharField(max_length=3, blank=True)
    stop_reason = models.TextField(blank=True, help_text="Why it answered less than all rows, for the customer.")
    cancel_requested_at = models.DateTimeField(null=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    worker = models.CharField(max_length=80, blank=True, help_text="Which worker holds the lease.")
    lease_until = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state__in=["queued", "running"]), name="batches_to_do")
        ]
        constraints = [
            models.CheckConstraint(condition=Q(rows_done__lte=F("rows_total")), name="batch_done_within_total"),
            models.CheckConstraint(condition=Q(rows_failed__lte=F("rows_done")), name="batch_failed_within_done"),
            models.CheckConstraint(
                condition=Q(budget=None, budget_currency="")
                | Q(budget__isnull=False, budget__gt=0) & ~Q(budget_currency=""),
                name="batch_budget_is_money",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"

    @property
    def has_ended(self) -> bool:
        return self.state not in (JobState.QUEUED, JobState.RUNNING)
