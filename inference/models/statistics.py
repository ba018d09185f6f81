"""Statistics of deployments: sums over minutes and hours, of all server processes together."""

from django.db import models
from django.utils import timezone

from tenants.models import TenantOwned


class Width(models.TextChoices):
    """How long a row's time is."""

    MINUTE = "minute"
    HOUR = "hour"


class DeploymentStatistics(TenantOwned):
    """What one version answered under one deployment in one minute or hour; without traffic there is no row.

    `version` is MODEL@NUMBER, and empty for requests that were refused before one was chosen. The histogram has the
    answers by the bucket of their duration (`inference/plane/statistics.py`), those that are empty left out.
    """

    deployment = models.CharField(max_length=60, help_text="name of the deployment, which may be gone by now")
    version = models.CharField(max_length=100, blank=True, help_text="model@number; empty if none was chosen")
    width = models.CharField(max_length=6, choices=Width.choices)
    start = models.DateTimeField()
    answered = models.BigIntegerField()
    client_errors = models.BigIntegerField(help_text="answers from 400 to 499")
    server_errors = models.BigIntegerField(help_text="answers from 500 on")
    rows = models.BigIntegerField()
    batches = models.BigIntegerField()
    batch_rows = models.BigIntegerField(help_text="rows in these batches")
    cache_hits = models.BigIntegerField()
    queue_us = models.BigIntegerField()
    compute_us = models.BigIntegerField()
    total_us = models.BigIntegerField()
    histogram = models.JSONField(help_text="how many answers by bucket")

    class Meta(TenantOwned.Meta):
        abstract = False
        verbose_name_plural = "deployment statistics"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "deployment", "width", "start", "version"], name="one_statistic_a_time"
            )
        ]
        indexes = [models.Index(fields=["width", "start"], name="statistics_to_forget")]

    def __str__(self) -> str:
        return f"{self.deployment} {self.version} {self.start:%Y-%m-%d %H:%M} {self.width}"


class StatisticsSource(models.Model):
    """A process that brings statistics: the number of its last parcel, so that one brought twice counts once."""

    id = models.CharField(primary_key=True, max_length=64)
    parcel = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.id
