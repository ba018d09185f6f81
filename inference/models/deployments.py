"""Deployments: the name that a client calls, and the versions that answer."""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from modelhub.models import ModelVersion
from tenants import ids
from tenants.models import TenantOwned

STICKY = r"(request|key|header:[A-Za-z0-9-]{1,64})"
LIMITS = ("requests_per_minute", "concurrency", "rows_per_request", "queue_rows")
ROLLBACK = ("rollback_error_rate", "rollback_p99_ms")


def _above_nothing(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(**{f"{name}__gt": 0}), name=f"deployment_{name}_above_0")


class Deployment(TenantOwned):
    """A name under which versions are served: `version` answers what the canaries (`DeploymentTarget`) do not."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.deployment, editable=False)
    name = models.CharField(max_length=60)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    previous = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="what a roll-back returns to when there is no canary to end",
    )  # fmt: skip
    shadow = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="asked as well, compared and counted; never returned and never billed",
    )  # fmt: skip
    sticky = models.CharField(
        max_length=71, default="request", validators=[RegexValidator(f"^{STICKY}$")],
        help_text="what keeps a caller at one side of a split: request (nothing does), key, or header:NAME",
    )  # fmt: skip
    paused = models.BooleanField(default=False, help_text="predictions are refused with 503")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    concurrency = models.PositiveIntegerField(null=True, blank=True, help_text="requests under way at once")
    rows_per_request = models.PositiveIntegerField(null=True, blank=True)
    queue_rows = models.PositiveIntegerField(null=True, blank=True, help_text="rows that may wait for a version")
    cache_seconds = models.PositiveIntegerField(default=0, help_text="how long an answer is kept; 0 keeps none")
    rollback_error_rate = models.FloatField(null=True, blank=True, help_text="share of requests, above 0 up to 1")
    rollback_p99_ms = models.PositiveIntegerField(null=True, blank=True)
    rollback_window_seconds = models.PositiveIntegerField(default=300)
    rollback_minimum_requests = models.PositiveIntegerField(default=100)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="one_deployment_a_name"),
            models.CheckConstraint(condition=Q(sticky__regex=f"^{STICKY}$"), name="deployment_sticky_form"),
            models.CheckConstraint(
                condition=Q(rollback_error_rate__gt=0, rollback_error_rate__lte=1),
                name="deployment_rollback_error_rate_is_a_share",
            ),
            *(
                _above_nothing(name)
                for name in (*LIMITS, "rollback_p99_ms", "rollback_window_seconds", "rollback_minimum_requests")
            ),
        ]

    def __str__(self) -> str:
        return self.name


class DeploymentTarget(TenantOwned):
    """A canary: a version beside the main one, and its share in percent; the database keeps the sum below 100."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="targets")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    weight = models.PositiveSmallIntegerField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["deployment", "version"], name="one_target_a_version"),
            models.CheckConstraint(condition=Q(weight__gte=1, weight__lte=99), name="target_weight_1_to_99"),
        ]

    def __str__(self) -> str:
        return f"{self.version}: {self.weight} %"


class DeploymentLabel(TenantOwned):
    """A name of the customer's for a version of a deployment, as `stable` or `canary`; it takes no share by itself."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="labels")
    name = models.CharField(max_length=60)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["deployment", "name"], name="one_label_a_name")]

    def __str__(self) -> str:
        return f"{self.name}: {self.version}"
