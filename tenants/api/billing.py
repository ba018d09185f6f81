"""Invoices: the draft of each month that is not closed, and those that were issued, as JSON, CSV and PDF."""

from datetime import date
from functools import partial
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import pricing
from tenants.api import openapi
from tenants.api.pagination import Place, bad_cursor, page_of
from tenants.api.serializers import PageQuery, PlainDecimalField, StrictSerializer
from tenants.api.views import TenantView
from tenants.invoicing import credit, invoice_csv, invoice_pdf, invoices
from tenants.invoicing.billing import Bill
from tenants.models import CreditEntry, CreditNote, Invoice, InvoiceLine, InvoiceState, LineKind, Meter, PriceModel

PDF, CSV = "application/pdf", "text/csv"


Money = partial(serializers.DecimalField, max_digits=None, decimal_places=None)


class TierSerializer(serializers.Serializer[Any]):
    up_to = serializers.CharField(allow_null=True, help_text="the last unit of the tier; null: it has no end")
    amount = serializers.CharField(help_text="the price of `per` units")


class InvoiceLineSerializer(serializers.Serializer[InvoiceLine]):
    kind = serializers.ChoiceField(choices=LineKind.choices)
    month = serializers.DateField(format="%Y-%m", help_text="the month that it is for: an earlier one if it is late")
    plan = serializers.CharField(source="plan_id", allow_null=True)
    meter = serializers.ChoiceField(choices=[("", "none"), *Meter.choices], help_text="empty: a fee, or an adjustment")
    description = serializers.CharField()
    model = serializers.ChoiceField(choices=[("", "none"), *PriceModel.choices], help_text="how the price works")
    quantity = PlainDecimalField(help_text="what was used, in the meter's own unit")
    unit = serializers.CharField(help_text="what the price is for, in words")
    unit_price = PlainDecimalField(help_text="the price of `per` units of the meter")
    per = PlainDecimalField()
    included = PlainDecimalField(help_text="units a month that cost nothing")
    minimum = PlainDecimalField(help_text="what the meter costs a month at least")
    tiers = TierSerializer(many=True)
    hours = serializers.IntegerField(help_text="how many hours of the month count for what is prorated")
    month_hours = serializers.IntegerField()
    amount = Money(help_text="rounded once, half to even")


class CreditNoteSerializer(serializers.ModelSerializer[CreditNote]):
    class Meta:
        model = CreditNote
        fields = ["number", "amount", "to_credit", "reason", "at"]
        read_only_fields = fields


class InvoiceSerializer(serializers.Serializer[Bill]):
    id = serializers.CharField(help_text="the number; of a draft the month")
    number = serializers.CharField(source="invoice.number", help_text="empty while it is a draft")
    month = serializers.DateField(source="invoice.month", format="%Y-%m")
    state = serializers.ChoiceField(source="invoice.state", choices=InvoiceState.choices)
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField(help_text="the first moment after the month")
    currency = serializers.CharField(source="invoice.currency", help_text="ISO 4217")
    lines = InvoiceLineSerializer(many=True)
    total = Money(source="invoice.total", help_text="the sum of the lines' amounts")
    credit_used = Money(source="invoice.credit_used", help_text="what credit pays of it; below zero: what it gives")
    credited = Money(source="invoice.credited", help_text="what credit notes took off before it was paid")
    paid = Money(source="invoice.paid")
    due = Money(source="invoice.due", help_text="what is still to be paid")
    issued_at = serializers.DateTimeField(source="invoice.issued_at", allow_null=True)
    paid_at = serializers.DateTimeField(source="invoice.paid_at", allow_null=True)
    voided_at = serializers.DateTimeField(source="invoice.voided_at", allow_null=True)
    credit_notes = CreditNoteSerializer(source="notes", many=True)


class InvoiceQuery(PageQuery):
    state = serializers.ChoiceField(choices=InvoiceState.choices, required=False, help_text="only these")


class CreditSerializer(serializers.Serializer[Any]):
    currency = serializers.CharField(help_text="ISO 4217")
    balance = Money(help_text="what is left of what has not expired")


class CreditEntrySerializer(serializers.ModelSerializer[CreditEntry]):
    amount = PlainDecimalField(help_text="below zero: used")
    of = serializers.CharField(source="source_id", allow_null=True, help_text="the entry that gave what this takes")
    invoice = serializers.CharField(source="invoice.number", allow_null=True, default=None)

    class Meta:
        model = CreditEntry
        fields = ["id", "kind", "of", "amount", "currency", "at", "expires_at", "invoice", "reason"]
        read_only_fields = fields


class InvoicesView(TenantView):
    """The tenant's invoices."""

    scopes = {"GET": ("billing",)}

    @extend_schema(
        operation_id="list_invoices",
        tags=["Billing"],
        parameters=[InvoiceQuery],
        responses=openapi.answers(200, openapi.page_of(InvoiceSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """An invoice for each month since the account was opened, newest first; a draft where it is not closed."""
        query = self.query(InvoiceQuery)
        now, tenant = timezone.now(), self.caller.tenant
        listed = [
            (month, row)
            for month, row in invoices.listed(tenant=tenant, now=now)
            if query.get("state") in (None, row.state if row else InvoiceState.DRAFT)
        ]

        def fetch(beyond: Place | None, backwards: bool, count: int) -> list[tuple[date, Invoice | None]]:
            ordered = listed[::-1] if backwards else listed
            if beyond is None:
                return ordered[:count]
            month = pricing.month_of(beyond[0]) if len(beyond) == 1 and isinstance(beyond[0], str) else None
            if month is None:
                raise bad_cursor()
            return [each for each in ordered if (each[0] > month if backwards else each[0] < month)][:count]

        page = page_of(request, place=lambda each: [f"{each[0]:%Y-%m}"], fetch=fetch)
        return page.response(InvoiceSerializer, invoices.bills(tenant=tenant, listed=page.rows, now=now))


class InvoiceView(TenantView):
    """One invoice."""

    scopes = {"GET": ("billing",)}

    @extend_schema(operation_id="get_invoice", tags=["Billing"], responses=openapi.answers(200, InvoiceSerializer, 404))
    def get(self, request: Request, invoice_id: str) -> Response:
        """An invoice by its number, or by its month (`2026-11`): a draft while that is not closed."""
        return Response(InvoiceSerializer(_asked(self, invoice_id)).data)


class AnythingIsTaken(BaseContentNegotiation):
    """The address says which form is wanted."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


def _a_file(media_type: str, kind: OpenApiTypes) -> dict[Any, Any]:
    refusals = {key: value for key, value in openapi.answers(200, None, 404).items() if key != 200}
    return refusals | {(200, media_type): kind}


class InvoicePdfView(TenantView):
    """One invoice to print."""

    scopes = {"GET": ("billing",)}
    content_negotiation_class = AnythingIsTaken

    @extend_schema(
        operation_id="get_invoice_pdf",
        tags=["Billing"],
        responses=_a_file(PDF, OpenApiTypes.BINARY),
    )
    def get(self, request: Request, invoice_id: str) -> HttpResponse:
        """The invoice as a PDF file; that of a draft says that it is one."""
        bill = _asked(self, invoice_id)
        return _file(invoice_pdf.render(bill=bill), f"{bill.id}.pdf", PDF)


class InvoiceCsvView(TenantView):
    """One invoice for a spreadsheet."""

    scopes = {"GET": ("billing",)}
    content_negotiation_class = AnythingIsTaken

    @extend_schema(
        operation_id="get_invoice_csv",
        tags=["Billing"],
        responses=_a_file(CSV, OpenApiTypes.STR),
    )
    def get(self, request: Request, invoice_id: str) -> HttpResponse:
        """The invoice's lines as CSV, one row a line."""
        bill = _asked(self, invoice_id)
        return _file(invoice_csv.render(bill=bill).encode(), f"{bill.id}.csv", f"{CSV}; charset=utf-8")


class CreditView(TenantView):
    """The tenant's credit."""

    scopes = {"GET": ("billing",)}

    @extend_schema(operation_id="get_credit", tags=["Billing"], responses=openapi.answers(200, CreditSerializer))
    def get(self, request: Request) -> Response:
        """What is left of the credit that the next invoices use."""
        self.query(StrictSerializer)
        tenant = self.caller.tenant
        found = {"currency": tenant.plan.currency, "balance": credit.balance(tenant=tenant, now=timezone.now())}
        return Response(CreditSerializer(found).data)


class CreditEntriesView(TenantView):
    """What became of the tenant's credit."""

    scopes = {"GET": ("billing",)}

    @extend_schema(
        operation_id="list_credit_entries",
        tags=["Billing"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(CreditEntrySerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """Credit given, used and returned, newest first."""
        self.query(PageQuery)
        rows = CreditEntry.objects.for_tenant(self.caller.tenant).select_related("invoice")
        return self.page(rows, CreditEntrySerializer)


def _asked(view: TenantView, invoice_id: str) -> Bill:
    view.query(StrictSerializer)
    return invoices.get(tenant=view.caller.tenant, name=invoice_id, now=timezone.now())


def _file(content: bytes, name: str, media_type: str) -> HttpResponse:
    return HttpResponse(
        content, content_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )  # fmt: skip
