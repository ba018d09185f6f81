"""Plans and their prices."""

from decimal import Decimal

from django.db import models


class Meter(models.TextChoices):
    """What is counted; each quantity is a sum over an hour."""

    REQUESTS = "requests"
    PREDICTIONS = "predictions"
    BATCH_PREDICTIONS = "batch_predictions"
    COMPUTE_MS = "compute_ms"
    INPUT_BYTES = "input_bytes"
    TRAINING_SECONDS = "training_seconds"
    STORED_BYTE_HOURS = "stored_byte_hours"


class Plan(models.Model):
    """What a tenant may use and what it pays. An empty limit is no limit."""

    code = models.SlugField(primary_key=True, max_length=40)
    name = models.CharField(max_length=80)
    currency = models.CharField(max_length=3, default="EUR")
    predictions_per_minute = models.PositiveBigIntegerField(null=True, blank=True)
    predictions_per_day = models.PositiveBigIntegerField(null=True, blank=True)
    predictions_per_month = models.PositiveBigIntegerField(null=True, blank=True)
    stored_bytes = models.PositiveBigIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class Price(models.Model):
    """A flat price for a meter from a day on: `amount` for every `per` units, `unit` in words."""

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="prices")
    meter = models.CharField(max_length=24, choices=Meter.choices)
    valid_from = models.DateField()
    amount = models.DecimalField(max_digits=38, decimal_places=12)
    per = models.DecimalField(max_digits=38, decimal_places=12, default=Decimal(1))
    unit = models.CharField(max_length=40)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "meter", "valid_from"], name="one_price_a_day"),
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="price_not_negative"),
            models.CheckConstraint(condition=models.Q(per__gt=0), name="price_per_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.plan_id}: {self.amount.normalize():f} per {self.unit}"
