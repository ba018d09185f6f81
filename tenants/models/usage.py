"""The ledger: hourly sums of usage, the segments that they came from, and who wrote those."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils import timezone

from tenants.models.accounts import Tenant
from tenants.models.billing import Meter
from tenants.models.scoped import TenantOwned


class UsageProducer(models.Model):
    """Who writes usage events; the watermark says up to when all of them have arrived."""

    id = models.CharField(primary_key=True, max_length=64)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(null=True, help_text="When it was last heard of, by the database's clock.")
    watermark = models.DateTimeField(null=True, help_text="All events of before have arrived.")
    drained_at = models.DateTimeField(null=True, help_text="When a dead producer's last segment had arrived.")
    records_at_once = models.BooleanField(
        default=False, help_text="Its events arrive in the transaction that makes them, so none is under way for long."
    )
    written_off_at = models.DateTimeField(null=True, help_text="When an operator gave up what had not arrived.")
    written_off_by = models.CharField(max_length=120, blank=True)
    written_off_because = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(written_off_at=None)
                | ~models.Q(written_off_by="") & ~models.Q(written_off_because=""),
                name="written_off_by_somebody_for_a_reason",
            )
        ]

    def __str__(self) -> str:
        return self.id


class UsageSegment(models.Model):
    """A segment of events that is in the rollup: its id is unique, so one seen twice changes nothing."""

    id = models.CharField(primary_key=True, max_length=96)
    producer = models.CharField(max_length=64, db_index=True)
    sha256 = models.CharField(max_length=64, help_text="of the segment's bytes as they were written")
    archived_as = models.CharField(max_length=120, blank=True, help_text="name of the archived file in the storage")
    events = models.PositiveIntegerField()
    first_event_at = models.DateTimeField(null=True)
    last_event_at = models.DateTimeField(null=True)
    arrived_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(fields=["last_event_at", "first_event_at"], name="segments_by_time"),
            models.Index(fields=["archived_as"], name="segments_by_file"),
        ]

    def __str__(self) -> str:
        return self.id


class RejectedSegment(models.Model):
    """A segment that the ledger could not take: its file waits beside the spool for an operator."""

    id = models.CharField(primary_key=True, max_length=96)
    producer = models.CharField(max_length=64, db_index=True)
    host = models.CharField(max_length=255, help_text="the machine on which the file is")
    path = models.CharField(max_length=1000)
    reason = models.TextField()
    complete_before = models.DateTimeField(help_text="Its events are not older: what came before it had arrived.")
    rejected_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.id


def _tenant_first() -> "models.ForeignKey[Tenant]":
    """The tenant of a row whose unique key begins with it: another index of it would slow down each row that comes."""
    return models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", editable=False, db_index=False)


class UsageHour(TenantOwned):
    """The rollup: one sum for (hour, key, deployment, version, meter). Reports and invoices read nothing else."""

    tenant = _tenant_first()
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

    tenant = _tenant_first()
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
