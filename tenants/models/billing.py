"""Plans, their prices, and which plan a tenant had from when."""

from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import Func


class Meter(models.TextChoices):
    """What is counted; each quantity is a sum over an hour."""

    REQUESTS = "requests"
    PREDICTIONS = "predictions"
    BATCH_PREDICTIONS = "batch_predictions"
    COMPUTE_MS = "compute_ms"
    INPUT_BYTES = "input_bytes"
    TRAINING_SECONDS = "training_seconds"
    STORED_BYTE_HOURS = "stored_byte_hours"


class PriceModel(models.TextChoices):
    """What a price makes of a quantity: `pricing.cost` has the formulas."""

    PER_UNIT = "per_unit", "per unit: `amount` for every `per` units"
    GRADUATED = "graduated", "graduated: each unit by the tier in which it lies"
    VOLUME = "volume", "volume: all units by the tier in which the month's quantity lies"
    PACKAGE = "package", "package: `amount` for every begun `per` units"
    FLAT = "flat", "flat: a fee of `amount` a month, whatever is used"


TIERED = (PriceModel.GRADUATED, PriceModel.VOLUME)


class Plan(models.Model):
    """What a tenant may use and what it pays. An empty limit is no limit."""

    code = models.SlugField(primary_key=True, max_length=40)
    name = models.CharField(max_length=80)
    currency = models.CharField(max_length=3, default="EUR")
    predictions_per_minute = models.PositiveBigIntegerField(null=True, blank=True)
    predictions_per_day = models.PositiveBigIntegerField(null=True, blank=True)
    predictions_per_month = models.PositiveBigIntegerField(null=True, blank=True)
    stored_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    training_jobs_at_once = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Trainings and evaluations of a tenant that run at the same time; further ones wait.",
    )
    training_job_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How long one may take; empty: the service's TRAINING_MAX_SECONDS.",
    )
    training_job_bytes = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Memory that one may hold; empty: the service's TRAINING_MAX_MEMORY_BYTES.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(currency__regex="^[A-Z]{3}$"), name="currency_is_a_code"),
            models.CheckConstraint(
                condition=(Q(training_jobs_at_once=None) | Q(training_jobs_at_once__gt=0))
                & (Q(training_job_seconds=None) | Q(training_job_seconds__gt=0))
                & (Q(training_job_bytes=None) | Q(training_job_bytes__gt=0)),
                name="plan_lets_a_job_be_done",
            ),
        ]

    def __str__(self) -> str:
        return self.name


MOST_MONEY = Decimal(10) ** 12
MOST_UNITS = Decimal(10) ** 18


class Price(models.Model):
    """A version of a plan's price of a meter, from a day on; of the plan itself (a fee) where there is no meter.

    It has no currency of its own but the plan's, so that the prices of a plan cannot mix any. NaN is greater than every
    number to PostgreSQL, so that an upper bound keeps it out.
    """

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="prices")
    meter = models.CharField(max_length=24, choices=Meter.choices, blank=True, help_text="none for a flat monthly fee")
    valid_from = models.DateField()
    model = models.CharField(max_length=12, choices=PriceModel.choices, default=PriceModel.PER_UNIT)
    amount = models.DecimalField(max_digits=38, decimal_places=12)
    per = models.DecimalField(max_digits=38, decimal_places=12, default=Decimal(1))
    unit = models.CharField(max_length=40)
    included = models.DecimalField(
        max_digits=38, decimal_places=12, default=Decimal(0), help_text="units a month that cost nothing"
    )
    minimum = models.DecimalField(
        max_digits=38, decimal_places=12, default=Decimal(0), help_text="what the meter costs a month at least"
    )
    tiers = models.JSONField(
        default=list, blank=True, help_text='[{"up_to": "1000", "amount": "0.50"}, {"up_to": null, "amount": "0.40"}]'
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "meter", "valid_from"], name="one_price_a_day"),
            models.CheckConstraint(condition=Q(amount__range=(0, MOST_MONEY)), name="price_not_negative"),
            models.CheckConstraint(condition=Q(per__gt=0, per__lte=MOST_UNITS), name="price_per_positive"),
            models.CheckConstraint(condition=Q(included__range=(0, MOST_UNITS)), name="price_included_in_bounds"),
            models.CheckConstraint(condition=Q(minimum__range=(0, MOST_MONEY)), name="price_minimum_in_bounds"),
            models.CheckConstraint(
                condition=Q(model=PriceModel.FLAT, meter="", included=0, minimum=0)
                | (~Q(model=PriceModel.FLAT) & ~Q(meter="")),
                name="price_flat_has_no_meter",
            ),
            models.CheckConstraint(
                condition=(Q(model__in=TIERED) & ~Q(tiers=[])) | (~Q(model__in=TIERED) & Q(tiers=[])),
                name="price_tiers_where_they_count",
            ),
            # In order, without overlap or gap, the last without an end: the function is in the migration.
            models.CheckConstraint(
                condition=Func(F("tiers"), function="tenants_tiers_hold", output_field=models.BooleanField()),
                name="price_tiers_hold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan_id}: {self.amount.normalize():f} per {self.unit}"
