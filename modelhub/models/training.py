"""Training jobs: rows are the queue."""

from django.db import models
from django.utils import timezone

from modelhub.models.datasets import Dataset
from tenants import ids
from tenants.models import TenantOwned


class JobState(models.TextChoices):
    """queued → running → succeeded, failed or cancelled; stopped at its budget, with what there was by then."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


class TrainingJob(TenantOwned):
    """One training of one recipe on one data set; a trainer holds it by a lease that its heartbeat renews."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.training_job, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="+")
    model_name = models.CharField(max_length=60)
    recipe = models.CharField(max_length=40)
    parameters = models.JSONField(default=dict)
    state = models.CharField(max_length=16, choices=JobState.choices, default=JobState.QUEUED)
    progress = models.JSONField(default=dict, help_text="phase, done, total, in words and numbers")
    history = models.JSONField(default=list, help_text="the metrics of each epoch")
    error = models.TextField(blank=True, help_text="Why it failed, for the customer.")
    budget = models.DecimalField(max_digits=38, decimal_places=12, null=True, help_text="The most that it may cost.")
    budget_currency = models.CharField(max_length=3, blank=True)
    stop_reason = models.TextField(blank=True, help_text="Why it made less than was asked for, for the customer.")
    cancel_requested_at = models.DateTimeField(null=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    trainer = models.CharField(max_length=80, blank=True, help_text="Which trainer holds the lease.")
    lease_until = models.DateTimeField(null=True)
    training_seconds = models.DecimalField(max_digits=12, decimal_places=3, null=True)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(state__in=["queued", "running"]), name="jobs_to_do")
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(budget=None, budget_currency="")
                | models.Q(budget__isnull=False, budget__gt=0) & ~models.Q(budget_currency=""),
                name="job_budget_is_money",
            )
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"


class TrainingLogLine(TenantOwned):
    """A line of a job's log, in the order of `number`."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="+")
    number = models.PositiveIntegerField()
    at = models.DateTimeField()
    text = models.TextField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_line_a_number")]

    def __str__(self) -> str:
        return self.text
