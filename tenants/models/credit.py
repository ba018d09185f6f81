"""Credit: what tenants have been given and what they have spent of it, as rows that are only ever added."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants import ids
from tenants.models.scoped import TenantOwned


class CreditKind(models.TextChoices):
    """Where credit came from, or went."""

    GRANT = "grant", "given"
    CREDIT_NOTE = "credit_note", "from a credit note"
    INVOICE = "invoice", "from an invoice below zero"
    USED = "used", "used by an invoice"
    RETURNED = "returned", "returned by a void invoice"


class CreditEntry(TenantOwned):
    """An amount given (`source` is empty), or taken from, or returned to, what an earlier entry gave.

    A trigger sees to it that what is left of an entry never goes below zero, nor above what it gave.
    """

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.credit_entry, editable=False)
    kind = models.CharField(max_length=12, choices=CreditKind.choices)
    source = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="+")
    amount = models.DecimalField(max_digits=38, decimal_places=12)
    currency = models.CharField(max_length=3)
    at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, help_text="Bills of months that begin later are not paid by it.")
    invoice = models.ForeignKey("tenants.Invoice", on_delete=models.PROTECT, null=True, related_name="+")
    actor = models.CharField(max_length=120)
    reason = models.CharField(max_length=300, blank=True)

    class Meta(TenantOwned.Meta):
        verbose_name_plural = "credit entries"
        abstract = False
        constraints = [
            models.CheckConstraint(
                condition=Q(source=None, amount__range=("0.000000000001", 10**24))
                | Q(source__isnull=False, kind=CreditKind.USED, amount__range=(-(10**24), "-0.000000000001"))
                | Q(source__isnull=False, kind=CreditKind.RETURNED, amount__range=("0.000000000001", 10**24)),
                name="credit_given_then_taken",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.currency} {self.kind}"
