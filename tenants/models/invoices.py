"""Invoices: what was billed, with what it was worked out from. A draft has no row: it is derived when it is read."""

from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from tenants import ids
from tenants.models.billing import Plan, Price, PriceModel
from tenants.models.scoped import TenantOwned

AMOUNT_DIGITS, AMOUNT_DECIMALS = 38, 3


class InvoiceState(models.TextChoices):
    """A draft is never stored."""

    DRAFT = "draft"
    ISSUED = "issued"
    PAID = "paid"
    VOID = "void"


class LineKind(models.TextChoices):
    """What a line is for."""

    USAGE = "usage"
    FEE = "fee"
    ADJUSTMENT = "adjustment"


class NumberSeries(models.Model):
    """The last number of a series: its row is locked while a number is taken, so that none is missing or twice."""

    name = models.CharField(primary_key=True, max_length=20, help_text="as `INV-2026`")
    last = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "number series"

    def __str__(self) -> str:
        return f"{self.name}-{self.last:06d}"


class ClosedMonth(TenantOwned):
    """A month of a tenant that was closed: once, whether there was anything to bill or not."""

    month = models.DateField(help_text="its first day")
    closed_at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "month"], name="one_closing_a_month"),
            models.CheckConstraint(condition=Q(month__day=1), name="closed_month_is_a_month"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.month:%Y-%m}"


class Invoice(TenantOwned):
    """A bill. What it says is frozen; only its state moves, and what was paid or credited."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.invoice, editable=False)
    number = models.CharField(max_length=20, unique=True)
    month = models.DateField(help_text="the first day of the month that it is for")
    state = models.CharField(max_length=8, choices=InvoiceState.choices)
    currency = models.CharField(max_length=3)
    total = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)
    credit_used = models.DecimalField(
        max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS, default=Decimal(0),
        help_text="what the tenant's credit paid of it; below zero, what it gave to the credit",
    )  # fmt: skip
    credited = models.DecimalField(
        max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS, default=Decimal(0),
        help_text="what credit notes took off before it was paid",
    )  # fmt: skip
    paid = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS, default=Decimal(0))
    issued_at = models.DateTimeField()
    paid_at = models.DateTimeField(null=True)
    payment = models.CharField(max_length=120, blank=True, help_text="how it was paid: a reference of the operator's")
    voided_at = models.DateTimeField(null=True)
    void_reason = models.CharField(max_length=300, blank=True)
    issuer = models.JSONField(default=dict, help_text="name, address, tax line and VAT number of the operator")
    terms = models.JSONField(default=dict, help_text="plans and price versions that it was rated by")
    watermark = models.DateTimeField(help_text="All events of before had arrived.")
    rollup_sha256 = models.CharField(max_length=64, help_text="of the hourly sums that it was rated from")

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["tenant", "month"], name="one_invoice_a_month"),
            models.CheckConstraint(condition=Q(state__in=["issued", "paid", "void"]), name="invoice_has_a_state"),
            models.CheckConstraint(condition=Q(number__regex=r"^INV-\d{4}-\d{6,}$"), name="invoice_number_in_form"),
            models.CheckConstraint(
                condition=Q(total__gte=F("credit_used") + F("credited") + F("paid"), credited__gte=0, paid__gte=0),
                name="invoice_never_paid_twice",
            ),
            models.CheckConstraint(
                condition=~Q(state="paid")
                | Q(paid_at__isnull=False, total=F("credit_used") + F("credited") + F("paid")),
                name="paid_invoice_owes_nothing",
            ),
            models.CheckConstraint(
                condition=Q(state="void", voided_at__isnull=False, paid=0)
                | (~Q(state="void") & Q(voided_at=None, void_reason="")),
                name="void_invoice_was_not_paid",
            ),
        ]
        indexes = [models.Index(fields=["state", "month"], name="invoices_by_state")]

    def __str__(self) -> str:
        return self.number or f"{self.month:%Y-%m}"

    @property
    def due(self) -> Decimal:
        """What is still to be paid."""
        return (
            Decimal(0) if self.state == InvoiceState.VOID else self.total - self.credit_used - self.credited - self.paid
        )


class InvoiceLine(TenantOwned):
    """One line: what one price made of a month's quantity, or what an earlier month's late events change."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="+")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=12, choices=LineKind.choices)
    month = models.DateField(help_text="the month that the amount is for; an earlier one than the invoice's if late")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, related_name="+")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, null=True, related_name="+")
    meter = models.CharField(max_length=24, blank=True)
    description = models.CharField(max_length=200)
    model = models.CharField(max_length=12, choices=PriceModel.choices, blank=True)
    quantity = models.DecimalField(max_digits=38, decimal_places=12)
    unit = models.CharField(max_length=40, blank=True)
    unit_price = models.DecimalField(max_digits=38, decimal_places=12)
    per = models.DecimalField(max_digits=38, decimal_places=12, default=Decimal(1))
    included = models.DecimalField(max_digits=38, decimal_places=12, default=Decimal(0))
    minimum = models.DecimalField(max_digits=38, decimal_places=12, default=Decimal(0))
    tiers = models.JSONField(default=list)
    hours = models.PositiveIntegerField(default=0, help_text="for how many of the month's hours fee, allowance count")
    month_hours = models.PositiveIntegerField(default=0)
    amount = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="one_line_a_position"),
            models.CheckConstraint(
                condition=Q(kind=LineKind.ADJUSTMENT) | Q(amount__gte=0, plan__isnull=False), name="line_not_negative"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "month"], name="lines_of_a_month")]

    def __str__(self) -> str:
        return f"{self.description}: {self.amount}"


class CreditNote(TenantOwned):
    """An amount that an invoice is lowered by; what of it was settled already goes to the tenant's credit."""

    id = models.CharField(primary_key=True, max_length=ids.MAX_LENGTH, default=ids.credit_note, editable=False)
    number = models.CharField(max_length=20, unique=True)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="+")
    amount = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)
    to_credit = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)
    reason = models.CharField(max_length=300)
    actor = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__gt=0, amount__lte=10**24, to_credit__gte=0, to_credit__lte=F("amount")),
                name="credit_note_above_zero",
            ),
            models.CheckConstraint(condition=Q(number__regex=r"^CRN-\d{4}-\d{6,}$"), name="credit_note_number_in_form"),
        ]

    def __str__(self) -> str:
        return self.number
