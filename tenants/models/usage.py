"""The ledger's tables: who writes events, which segments have arrived, and the hourly sums that reports read."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils import timezone

from tenants.models.billing import Meter
from tenants.models.scoped import TenantOwned


class UsageProducer(models.Model):
    """A process that writes usage events; its watermark says up to when all of them have arrived."""

    id = models.CharField(primary_key=True, max_length=64)
    started_at = models.DateTimeField(default=timezone.now)
    watermark = models.DateTimeField(null=True)
    drained_at = models.DateTimeField(null=True, help_text="When a dead producer's last segment had arrived.")

    def __str__(self) -> str:
        return self.id


class UsageSegment(models.Model):
    """A segment of events that is in the rollup: its id is unique, so one seen twice changes nothing."""

    id = models.CharField(primary_key=True, max_length=96)
    producer = models.CharField(max_length=64, db_index=True)
    sha256 = models.CharField(max_length=64)
    events = models.PositiveIntegerField()
    first_event_at = models.DateTimeField(null=True)
    last_event_at = models.DateTimeField(null=True)
    arrived_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.id


class UsageHour(TenantOwned):
    """The rollup: one sum for (hour, key, deployment, version, meter). Reports and invoices read nothing else."""

    hour = models.DateTimeField()
    key = models.CharField(max_length=32, blank=True, help_text="id of the API key")
    deployment = models.CharField(max_length=80, blank=True, help_text="name of the deployment")
    version = models.CharField(max_length=100, blank=True, help_text="model@number")
    meter = models.CharField(max_length=24, choices=Meter.choices)
    quantity = models.DecimalField(max_digits=38, decimal_places=12)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "hour", "key", "deployment", "version", "meter"], name="one_sum_an_hour"
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h {self.meter} {self.quantity.normalize():f}"


class UsageDay(TenantOwned):
    """The hours of a UTC day added up, in the transaction that adds to them: a report over days or months reads these.

    A month of a thousand series is 744,000 hours and 31,000 days.
    """

    day = models.DateField()
    key = models.CharField(max_length=32, blank=True, help_text="id of the API key")
    deployment = models.CharField(max_length=80, blank=True, help_text="name of the deployment")
    version = models.CharField(max_length=100, blank=True, help_text="model@number")
    meter = models.CharField(max_length=24, choices=Meter.choices)
    quantity = models.DecimalField(max_digits=38, decimal_places=12)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "day", "key", "deployment", "version", "meter"], name="one_sum_a_day"
            )
        ]
        # Days come in order, so an index of a few pages finds those of a month among all tenants'.
        indexes = [BrinIndex(fields=["day"], autosummarize=True, pages_per_range=32, name="usage_by_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.meter} {self.quantity.normalize():f}"


class UsageMonth(TenantOwned):
    """A tenant's hours of a UTC month added up by meter, as its days are: what reports over all tenants read."""

    month = models.DateField(help_text="its first day")
    meter = models.CharField(max_length=24, choices=Meter.choices)
    quantity = models.DecimalField(max_digits=38, decimal_places=12)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["month", "tenant", "meter"], name="one_sum_a_month"),
            models.CheckConstraint(condition=models.Q(month__day=1), name="month_by_its_first_day"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.meter} {self.quantity.normalize():f}"
