"""Webhooks: where a tenant wants to be told, what is to be told where, and each try to do so."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants import ids
from tenants.models.notices import Notice
from tenants.models.scoped import TenantOwned

URL_LENGTH = 2000
ERROR_LENGTH = 300
ANSWER_LENGTH = 1000


class Disabled(models.TextChoices):
    """Why an endpoint was switched off; empty while it is on."""

    BY_OWNER = "by_owner"
    FAILING = "failing"
    GONE = "gone"


class WebhookEndpoint(TenantOwned):
    """A URL of a tenant, and the kinds of notices that are posted there.

    Its secret is not kept: it is derived from a seed by a key that the database does not hold.
    """

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.webhook_endpoint, editable=False)
    url = models.CharField(max_length=URL_LENGTH)
    description = models.CharField(max_length=200, default="", blank=True)
    kinds = ArrayField(models.CharField(max_length=60))
    disabled = models.CharField(max_length=16, choices=Disabled.choices, default="", blank=True)
    seed = models.BinaryField(max_length=32, editable=False)
    previous_seed = models.BinaryField(max_length=32, null=True, editable=False)
    previous_until = models.DateTimeField(null=True, blank=True, help_text="until then the secret before signs, too")
    failing_since = models.DateTimeField(null=True, blank=True, help_text="the first failure since the last success")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.CheckConstraint(
                condition=Q(previous_seed=None, previous_until=None)
                | Q(previous_seed__isnull=False, previous_until__isnull=False),
                name="previous_secret_ends",
            )
        ]

    @property
    def active(self) -> bool:
        return not self.disabled

    def __str__(self) -> str:
        return self.url


class DeliveryState(models.TextChoices):
    """What became of a delivery; `gone`: the endpoint answered 410, it wants no more."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"


class WebhookDelivery(TenantOwned):
    """One notice that is to be posted to one endpoint. A sender that has it at hand holds it until `claimed_until`."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.webhook_delivery, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="+")
    notice = models.ForeignKey(Notice, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=16, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    tries = models.PositiveSmallIntegerField(default=0, help_text="since it was last begun or replayed")
    next_at = models.DateTimeField(null=True, blank=True, help_text="when it is tried (again)")
    claim = models.CharField(max_length=32, default="", blank=True, editable=False)
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        verbose_name_plural = "webhook deliveries"
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "notice"], name="one_delivery_a_notice_and_endpoint"),
            models.CheckConstraint(
                condition=Q(state="pending", next_at__isnull=False, ended_at=None)
                | (~Q(state="pending") & Q(next_at=None, claimed_until=None, ended_at__isnull=False)),
                name="delivery_is_due_or_has_ended",
            ),
        ]
        indexes = [
            models.Index(fields=["next_at", "id"], condition=Q(state="pending"), name="deliveries_due"),
            models.Index(fields=["claimed_until"], condition=~Q(claimed_until=None), name="deliveries_at_hand"),
            models.Index(fields=["tenant", "id"], name="deliveries_of_a_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.notice_id} to {self.endpoint_id}"


class WebhookAttempt(TenantOwned):
    """One try: what was answered, how long it took, or why there was no answer."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status; none without an answer")
    error = models.CharField(max_length=ERROR_LENGTH, default="", blank=True)
    answer = models.CharField(max_length=ANSWER_LENGTH, default="", blank=True, help_text="its first bytes")

    def __str__(self) -> str:
        return f"{self.delivery_id}: {self.status or self.error}"
