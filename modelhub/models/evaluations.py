"""Evaluations: a model version on a data set; rows are the queue, as those of training jobs are."""

from django.db import models

from modelhub.models.datasets import Dataset
from modelhub.models.jobs import BUDGET_IS_MONEY, TrainerJob
from modelhub.models.registry import ModelVersion
from tenants import ids


class EvaluatedSplit(models.TextChoices):
    """Which rows of a data set a version is asked about."""

    VALIDATION = "validation"
    TRAIN = "train"
    ALL = "all"


class Evaluation(TrainerJob):
    """How good a version is on a sealed data set, which need not be the one that it learned from."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.evaluation, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="+")
    split = models.CharField(max_length=12, choices=EvaluatedSplit.choices, default=EvaluatedSplit.VALIDATION)
    slices = models.JSONField(default=list, help_text="by what the rows are grouped besides")
    result = models.JSONField(null=True, help_text="metrics, slices, calibration, thresholds, left_out")
    mistakes = models.JSONField(default=list, help_text="the rows that it got most wrong")

    class Meta(TrainerJob.Meta):
        abstract = False
        indexes = [
            models.Index(
                fields=["created_at"], condition=models.Q(state__in=["queued", "running"]), name="evaluations_to_do"
            )
        ]
        constraints = [
            models.CheckConstraint(condition=BUDGET_IS_MONEY, name="evaluation_budget_is_money"),
            models.CheckConstraint(
                condition=~models.Q(state="succeeded") | models.Q(result__isnull=False), name="evaluation_has_result"
            ),
        ]
