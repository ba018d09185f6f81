"""Quotas: the limits that were set, the buckets that hold what a period allows, and what processes have leased."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from tenants import ids
from tenants.models.scoped import TenantOwned

SCOPE_LENGTH = 100
HIGHEST_LIMIT = 10**15


class QuotaMeter(models.TextChoices):
    """What a quota counts: predictions as they are used up, or the requests that are under way at one moment."""

    PREDICTIONS = "predictions"
    CONCURRENCY = "concurrency"


class Period(models.TextChoices):
    """How long a bucket lasts, in UTC and database time; what is under way at a moment has one that never ends."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    ALWAYS = "always"


class SetBy(models.TextChoices):
    """Whose a limit is: the tenant's own, which it may change, or the operator's."""

    TENANT = "tenant"
    OPERATOR = "operator"


_SCOPE = Q(scope="tenant") | Q(scope__startswith="key:") | Q(scope__startswith="deployment:")
_FITTING = Q(meter="concurrency", period="always") | (Q(meter="predictions") & ~Q(period="always"))


class QuotaLimit(TenantOwned):
    """What one scope may use of a meter in a period, beside what the plan says; see `quota_limits.effective`."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.quota_limit, editable=False)
    scope = models.CharField(max_length=SCOPE_LENGTH, help_text="`tenant`, `key:ID` or `deployment:NAME`")
    meter = models.CharField(max_length=24, choices=QuotaMeter.choices)
    period = models.CharField(max_length=8, choices=Period.choices)
    limit = models.PositiveBigIntegerField()
    set_by = models.CharField(max_length=8, choices=SetBy.choices)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "scope", "meter", "period", "set_by"], name="one_limit_of_each_side"
            ),
            models.CheckConstraint(
                condition=Q(limit__gte=1) & Q(limit__lte=HIGHEST_LIMIT), name="quota_limit_in_range"
            ),
            models.CheckConstraint(condition=_SCOPE, name="quota_limit_scope"),
            models.CheckConstraint(condition=_FITTING, name="quota_limit_period_fits"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.meter} {self.period} {self.limit}"


class SpendCap(TenantOwned):
    """What a tenant's month may cost at most, in its plan's currency; of the two sides' caps the lower one holds."""

    amount = models.DecimalField(max_digits=38, decimal_places=12)
    set_by = models.CharField(max_length=8, choices=SetBy.choices)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "set_by"], name="one_cap_of_each_side"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="spend_cap_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} a month by the {self.set_by}"


class QuotaBucket(TenantOwned):
    """What one scope may use of a meter in one period: consumed + leased never passes the limit."""

    scope = models.CharField(max_length=SCOPE_LENGTH, help_text="`tenant`, `key:ID` or `deployment:NAME`")
    meter = models.CharField(max_length=24, choices=QuotaMeter.choices)
    period = models.CharField(max_length=8, choices=Period.choices)
    period_start = models.DateTimeField()
    limit = models.PositiveBigIntegerField()
    consumed = models.PositiveBigIntegerField(default=0)
    leased = models.PositiveBigIntegerField(default=0)
    warned = models.PositiveSmallIntegerField(default=0, help_text="the highest percentage that was told of")

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
