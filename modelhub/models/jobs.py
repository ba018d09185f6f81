"""What every row has that is queued for a trainer."""

from django.db import models
from django.utils import timezone

from tenants.models import TenantOwned


class JobState(models.TextChoices):
    """queued → running → succeeded, failed or cancelled; stopped at its budget, with what there was by then."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


class TrainerJob(TenantOwned):
    """Work for a trainer, which holds it by a lease that its heartbeat renews; billed by the second."""

    state = models.CharField(max_length=16, choices=JobState.choices, default=JobState.QUEUED)
    progress = models.JSONField(default=dict, help_text="phase, done, total, in words and numbers")
    error = models.TextField(blank=True, help_text="Why it failed, for the customer.")
    budget = models.DecimalField(max_digits=38, decimal_places=12, null=True, help_text="The most that it may cost.")
    budget_currency = models.CharField(max_length=3, blank=True)
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
        abstract = True

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"

    @property
    def has_ended(self) -> bool:
        return self.state not in (JobState.QUEUED, JobState.RUNNING)


BUDGET_IS_MONEY = models.Q(budget=None, budget_currency="") | models.Q(budget__isnull=False, budget__gt=0) & ~models.Q(
    budget_currency=""
)
