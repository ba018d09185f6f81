"""Training jobs: rows are the queue."""

from django.db import models

from modelhub.models.datasets import Dataset
from modelhub.models.jobs import BUDGET_IS_MONEY, TrainerJob
from modelhub.models.searches import Search
from tenants import ids
from tenants.models import TenantOwned


class TrainingJob(TrainerJob):
    """One training of one recipe on one data set; perhaps one of those that a search tries."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.training_job, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="+")
    model_name = models.CharField(max_length=60)
    recipe = models.CharField(max_length=40)
    parameters = models.JSONField(default=dict)
    history = models.JSONField(default=list, help_text="the metrics of each epoch")
    monitor = models.JSONField(
        default=dict, help_text="name and higher_is_better of the metric that tells epochs apart"
    )
    warm_start = models.ForeignKey(
        "modelhub.ModelVersion",
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The version whose weights it begins with.",
    )
    checkpoint = models.JSONField(
        default=dict, help_text="where another trainer takes it up: sha256, size, epochs done, attempt that wrote it"
    )
    keep_best = models.BooleanField(default=False, help_text="Whether cancelling it publishes the best so far.")
    stop_reason = models.TextField(blank=True, help_text="Why it made less than was asked for, for the customer.")
    search = models.ForeignKey(Search, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta(TrainerJob.Meta):
        abstract = False
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(state__in=["queued", "running"]), name="jobs_to_do")
        ]
        constraints = [models.CheckConstraint(condition=BUDGET_IS_MONEY, name="job_budget_is_money")]


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
