"""Who did what, and from where: rows that are only ever added, each linked to the one before it."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants import ids, origin
from tenants.models.scoped import TenantOwned

HASH_LENGTH = 64


class Event(models.Model):
    """One verb, written in the transaction that carried it out; the last three columns are the database's."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.audit_event, editable=False)
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=120)
    verb = models.CharField(max_length=60)
    subject = models.CharField(max_length=120)
    detail = models.JSONField(default=dict)
    address = models.CharField(max_length=origin.ADDRESS_LENGTH, default="", blank=True)
    forwarded_for = models.CharField(max_length=origin.FORWARDED_LENGTH, default="", blank=True)
    user_agent = models.CharField(max_length=origin.AGENT_LENGTH, default="", blank=True)
    request_id = models.CharField(max_length=ids.MAX_LENGTH, default="", blank=True)
    sequence = models.PositiveBigIntegerField(null=True, editable=False, help_text="1, 2, 3 … in each chain")
    previous_hash = models.CharField(max_length=HASH_LENGTH, default="", editable=False)
    hash = models.CharField(max_length=HASH_LENGTH, default="", editable=False, help_text="sha256, in hexadecimal")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.verb} {self.subject}"


class AuditEvent(Event, TenantOwned):
    """A verb of the control plane, done to a tenant; the database links it when its transaction commits."""

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "sequence"], name="one_audit_event_a_place"),
            models.CheckConstraint(
                condition=Q(sequence=None, hash="") | Q(sequence__gte=1, hash__regex=r"^[0-9a-f]{64}$"),
                name="audit_event_in_its_place_has_a_hash",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "id"], name="audit_events_of_a_tenant"),
            models.Index(fields=["at", "id"], condition=Q(sequence=None), name="audit_events_not_yet_linked"),
        ]


class AuditHead(TenantOwned):
    """The end of a tenant's chain: who links a row holds it locked until the commit."""

    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=HASH_LENGTH, default="", blank=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_audit_head_a_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant_id} at {self.sequence}"


class OperatorEvent(Event):
    """What operators did that is done to no one tenant; the database links it when it is added."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sequence"], name="one_operator_event_a_place")]


class OperatorHead(models.Model):
    """The end of the operators' chain, one row: who adds to it holds it locked until the commit."""

    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=HASH_LENGTH, default="", blank=True)

    def __str__(self) -> str:
        return f"operators at {self.sequence}"
