"""Measurements: what the engines do with a version on a kind of host."""

from django.db import models
from django.utils import timezone

from modelhub.models import ModelVersion
from tenants import ids
from tenants.models import TenantOwned


class EngineMeasurement(TenantOwned):
    """The times of a version's candidates on hosts of one kind, and which of them serves there."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.engine_measurement, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="+")
    host = models.CharField(max_length=300, help_text="processors and runtimes; hosts that agree in it share the times")
    table = models.JSONField(help_text="milliseconds of each candidate by threads and rows in the batch")
    engine = models.CharField(max_length=40, help_text="which serves")
    file = models.CharField(max_length=120, help_text="which is served")
    best_batch = models.PositiveSmallIntegerField(help_text="rows")
    threads_of_a_lone_request = models.PositiveSmallIntegerField()
    disturbance = models.FloatField(
        help_text="how many times as long a loop took beside it as it would alone; 1 is a quiet host"
    )
    measured_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["version", "host"], name="one_measurement_a_version_and_host"),
        ]

    def __str__(self) -> str:
        return f"{self.version} on {self.host}"
