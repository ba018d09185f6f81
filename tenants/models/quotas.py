"""Quotas: buckets that hold what a period allows, and the blocks that processes have leased from them."""

from django.db import models
from django.db.models import F, Q

from tenants.models.billing import Meter
from tenants.models.scoped import TenantOwned


class Period(models.TextChoices):
    """How long a bucket lasts, in UTC and database time."""

    MINUTE = "minute"
    MONTH = "month"


class QuotaBucket(TenantOwned):
    """What one scope may use of a meter in one period: consumed + leased never passes the limit."""

    scope = models.CharField(max_length=64, help_text="`tenant`, or later the id of a key or a deployment")
    meter = models.CharField(max_length=24, choices=Meter.choices)
    period = models.CharField(max_length=8, choices=Period.choices)
    period_start = models.DateTimeField()
    limit = models.PositiveBigIntegerField()
    consumed = models.PositiveBigIntegerField(default=0)
    leased = models.PositiveBigIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "scope", "meter", "period", "period_start"], name="one_bucket_a_period"
            ),
            models.CheckConstraint(condition=Q(limit__gte=F("consumed") + F("leased")), name="quota_not_passed"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.meter} of {self.period} {self.period_start:%Y-%m-%d %H:%M}"


class QuotaLease(TenantOwned):
    """The units of a bucket that a producer holds and has not settled; they return once its spool is drained."""

    bucket = models.ForeignKey(QuotaBucket, on_delete=models.CASCADE, related_name="+")
    producer = models.CharField(max_length=64)
    units = models.PositiveBigIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["bucket", "producer"], name="one_lease_a_producer")]

    def __str__(self) -> str:
        return f"{self.producer} holds {self.units} of {self.bucket_id}"
