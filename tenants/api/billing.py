"""Invoices: one a month, a draft until the month is closed."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import billing, pricing
from tenants.api import openapi
from tenants.api.pagination import Place, bad_cursor, page_of
from tenants.api.serializers import PageQuery, PlainDecimalField, StrictSerializer
from tenants.api.views import TenantView
from tenants.billing import Invoice, InvoiceLine
from tenants.errors import NotFound
from tenants.models import Meter


class InvoiceLineSerializer(serializers.Serializer[InvoiceLine]):
    meter = serializers.ChoiceField(choices=Meter.choices)
    description = serializers.CharField()
    quantity = PlainDecimalField(help_text="what was used, in the meter's own unit")
    unit = serializers.CharField(help_text="what the price is for, in words")
    unit_price = PlainDecimalField(help_text="the price of `per` units of the meter")
    per = PlainDecimalField()
    amount = serializers.DecimalField(
        max_digits=None, decimal_places=None, help_text="quantity * unit_price / per, rounded once, half to even"
    )


class InvoiceSerializer(serializers.Serializer[Invoice]):
    id = serializers.CharField(help_text="the month")
    state = serializers.ChoiceField(choices=["draft"])
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField(help_text="the first moment after the month")
    currency = serializers.CharField(help_text="ISO 4217")
    lines = InvoiceLineSerializer(many=True)
    total = serializers.DecimalField(max_digits=None, decimal_places=None, help_text="the sum of the lines' amounts")


class InvoicesView(TenantView):
    """The tenant's invoices."""

    scopes = {"GET": ("billing",)}

    @extend_schema(
        operation_id="list_invoices",
        tags=["Billing"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(InvoiceSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """An invoice for each month since the account was opened, newest first."""
        self.query(PageQuery)
        now, tenant = timezone.now(), self.caller.tenant
        months = billing.months(tenant=tenant, now=now)

        def fetch(beyond: Place | None, backwards: bool, count: int) -> list[Any]:
            ordered = months[::-1] if backwards else months
            if beyond is None:
                return ordered[:count]
            month = pricing.month_of(beyond[0]) if len(beyond) == 1 and isinstance(beyond[0], str) else None
            if month is None:
                raise bad_cursor()
            return [each for each in ordered if (each > month if backwards else each < month)][:count]

        page = page_of(request, place=lambda month: [f"{month:%Y-%m}"], fetch=fetch)
        drafts = [billing.draft_invoice(tenant=tenant, month=month, now=now) for month in page.rows]
        return page.response(InvoiceSerializer, drafts)


class InvoiceView(TenantView):
    """One invoice."""

    scopes = {"GET": ("billing",)}

    @extend_schema(operation_id="get_invoice", tags=["Billing"], responses=openapi.answers(200, InvoiceSerializer, 404))
    def get(self, request: Request, month: str) -> Response:
        """The invoice of a month (`2026-11`), by the prices that held on each of its days."""
        self.query(StrictSerializer)
        first = pricing.month_of(month)
        if first is None:
            raise NotFound(f"There is no invoice {month!r}; expected a month, as in 2026-11.")
        draft = billing.draft_invoice(tenant=self.caller.tenant, month=first, now=timezone.now())
        return Response(InvoiceSerializer(draft).data)
