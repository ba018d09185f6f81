"""Invoices: listed, shown with their lines, and paid, voided, credited by verbs; credit and plan changes, to read."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants import pricing
from tenants.admin.base import Form, Inline, ReadOnlyAdmin, VerbAdmin, actor, become
from tenants.errors import Refusal
from tenants.invoicing import credit, invoice_csv, invoice_pdf, invoices
from tenants.models import (
    ClosedMonth,
    CreditEntry,
    CreditNote,
    Invoice,
    InvoiceLine,
    NumberSeries,
    PlanChange,
    Tenant,
)

FILES = {"pdf": "application/pdf", "csv": "text/csv; charset=utf-8"}


class LineInline(Inline):
    model = InvoiceLine
    fields = ["position", "kind", "month", "plan", "description", "quantity", "unit_price", "per", "unit", "amount"]
    extra = 0
    can_delete = False
    ordering = ["position"]

    def has_add_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return False


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    list_display = ["number", "tenant", "of_month", "state", "total_in_coins", "due_in_coins", "currency", "issued_at",
                    "files"]  # fmt: skip
    list_filter = ["state", "currency", "month"]
    list_select_related = ["tenant"]
    search_fields = ["number", "id", "tenant__name", "tenant__id"]
    date_hierarchy = "month"
    ordering = ["-number"]
    actions = ["pay"]
    inlines = [LineInline]
    change_form_template = "admin/tenants/invoice/change.html"
    fields = [
        "number", "tenant", "month", "state", "currency", "total", "credit_used", "credited", "paid", "due",
        "issued_at", "paid_at", "payment", "voided_at", "void_reason", "issuer", "terms", "watermark",
        "rollup_sha256", "files",
    ]  # fmt: skip

    @admin.display(description="month", ordering="month")
    def of_month(self, invoice: Invoice) -> str:
        return f"{invoice.month:%Y-%m}"

    @admin.display(description="total", ordering="total")
    def total_in_coins(self, invoice: Invoice) -> str:
        return f"{pricing.in_coins(invoice.total, invoice.currency):,f}"

    @admin.display(description="due")
    def due_in_coins(self, invoice: Invoice) -> str:
        return f"{pricing.in_coins(invoice.due, invoice.currency):,f}"

    @admin.display(description="files")
    def files(self, invoice: Invoice) -> SafeString:
        pdf, csv = (reverse("admin:tenants_invoice_file", args=[invoice.pk, kind]) for kind in FILES)
        return format_html('<a href="{}">PDF</a> <a href="{}">CSV</a>', pdf, csv)

    @admin.action(description="Paid: what was due has come in", permissions=["act"])
    def pay(self, request: HttpRequest, rows: QuerySet[Invoice]) -> None:
        for row in rows:
            try:
                invoices.pay(invoice=row, payment="", actor=actor(request), now=timezone.now())
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.ERROR)
            else:
                self.message_user(request, f"Paid: {row.number}.", messages.SUCCESS)

    def has_act_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.change_invoice")

    def get_urls(self) -> list[URLPattern]:
        act, file = self.admin_site.admin_view(self.act_view), self.admin_site.admin_view(self.file_view)
        return [
            path("<str:invoice_id>/act/", act, name="tenants_invoice_act"),
            path("<str:invoice_id>/file.<str:kind>", file, name="tenants_invoice_file"),
            *super().get_urls(),
        ]

    def act_view(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        """What the forms on an invoice's page do."""
        if request.method != "POST" or not self.has_act_permission(request):
            raise PermissionDenied
        row = _row(invoice_id)
        try:
            done = _act(row, request)
        except Refusal as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
        else:
            self.message_user(request, done, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tenants_invoice_change", args=[row.pk]))

    def file_view(self, request: HttpRequest, invoice_id: str, kind: str) -> HttpResponse:
        """An invoice as PDF or CSV."""
        row = _row(invoice_id)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if kind not in FILES:
            raise Http404(f"There is no {kind} of an invoice; expected {' or '.join(FILES)}.")
        bill = invoices.bill_of(row)
        content: Any = invoice_pdf.render(bill=bill) if kind == "pdf" else invoice_csv.render(bill=bill)
        return HttpResponse(
            content,
            content_type=FILES[kind],
            headers={"Content-Disposition": f'attachment; filename="{row.number}.{kind}"'},
        )


def _row(invoice_id: str) -> Invoice:
    row = Invoice.across_tenants.select_related("tenant").filter(pk=invoice_id).first()
    if row is None:
        raise Http404(f"There is no invoice {invoice_id}.")
    return row


def _act(row: Invoice, request: HttpRequest) -> str:
    said, who, now = request.POST, actor(request), timezone.now()
    match said.get("verb"):
        case "pay":
            invoices.pay(invoice=row, payment=said.get("payment", ""), actor=who, now=now)
            return f"{row.number} is paid."
        case "void":
            invoices.void(invoice=row, reason=said.get("reason", ""), actor=who, now=now)
            return f"{row.number} is void: what it billed comes on the tenant's next invoice."
        case "credit":
            note = invoices.give_credit_note(
                invoice=row, amount=said.get("amount", ""), reason=said.get("reason", ""), actor=who, now=now
            )
            return f"{note.number}: {note.amount:f} {row.currency} off {row.number}."
        case verb:
            raise Http404(f"Nothing called {verb} is done to invoices.")


class CreditForm(Form):
    tenant = forms.ModelChoiceField(queryset=Tenant.objects.all())

    class Meta:
        model = CreditEntry
        fields = ["amount", "currency", "expires_at", "reason"]


@admin.register(CreditEntry)
class CreditEntryAdmin(VerbAdmin):
    list_display = ["at", "tenant", "kind", "amount", "currency", "expires_at", "invoice", "actor", "reason"]
    list_filter = ["kind", "currency"]
    list_select_related = ["tenant", "invoice"]
    search_fields = ["tenant__name", "tenant__id", "id", "reason"]
    date_hierarchy = "at"
    ordering = ["-id"]
    form = CreditForm

    def get_fields(self, request: HttpRequest, obj: CreditEntry | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("tenant", "amount", "currency", "expires_at", "reason")
        return (
            "id",
            "at",
            "tenant",
            "kind",
            "source",
            "amount",
            "currency",
            "expires_at",
            "invoice",
            "actor",
            "reason",
        )

    def get_readonly_fields(self, request: HttpRequest, obj: CreditEntry | None = None) -> tuple[str, ...]:
        return self.get_fields(request, obj) if obj else ()

    def get_form(
        self, request: HttpRequest, obj: CreditEntry | None = None, change: bool = False, **options: Any
    ) -> Any:
        # The form has the tenant as a field of its own, as that of a key has.
        fields = {} if obj else {"fields": CreditForm.Meta.fields}
        return super().get_form(request, obj, change, **(options | fields))

    def save_model(self, request: HttpRequest, obj: CreditEntry, form: Form, change: bool) -> None:
        wanted: dict[str, Any] = form.cleaned_data
        entry = credit.grant(
            tenant=wanted["tenant"],
            amount=wanted["amount"],
            currency=wanted["currency"],
            expires_at=wanted["expires_at"],
            reason=wanted["reason"],
            actor=actor(request),
            now=timezone.now(),
        )
        become(obj, entry)


@admin.register(CreditNote)
class CreditNoteAdmin(ReadOnlyAdmin):
    list_display = ["number", "at", "tenant", "invoice", "amount", "to_credit", "reason", "actor"]
    list_select_related = ["tenant", "invoice"]
    search_fields = ["number", "invoice__number", "tenant__name", "tenant__id"]
    date_hierarchy = "at"
    ordering = ["-number"]
    fields = ["number", "at", "tenant", "invoice", "amount", "to_credit", "reason", "actor"]


@admin.register(PlanChange)
class PlanChangeAdmin(ReadOnlyAdmin):
    list_display = ["at", "tenant", "before", "after", "holds_from", "actor"]
    list_filter = ["after"]
    list_select_related = ["tenant", "before", "after"]
    search_fields = ["tenant__name", "tenant__id"]
    date_hierarchy = "at"
    ordering = ["-id"]
    fields = ["id", "tenant", "number", "before", "after", "at", "holds_from", "actor"]


@admin.register(ClosedMonth)
class ClosedMonthAdmin(ReadOnlyAdmin):
    list_display = ["month", "tenant", "closed_at"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id"]
    date_hierarchy = "month"
    ordering = ["-month", "-id"]
    fields = ["month", "tenant", "closed_at"]


@admin.register(NumberSeries)
class NumberSeriesAdmin(ReadOnlyAdmin):
    list_display = ["name", "last"]
    ordering = ["-name"]


@admin.register(InvoiceLine)
class InvoiceLineAdmin(ReadOnlyAdmin):
    list_display = ["invoice", "position", "tenant", "kind", "month", "plan", "description", "amount"]
    list_filter = ["kind", "meter", "plan"]
    list_select_related = ["invoice", "tenant", "plan"]
    search_fields = ["invoice__number", "tenant__name", "tenant__id"]
    date_hierarchy = "month"
    ordering = ["-id"]
    fields = [
        "invoice", "position", "tenant", "kind", "month", "plan", "price", "meter", "description", "model", "quantity",
        "unit", "unit_price", "per", "included", "minimum", "tiers", "hours", "month_hours", "amount",
    ]  # fmt: skip
