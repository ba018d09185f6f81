"""Paths of this app under /api/v1/."""

from django.urls import URLPattern, path

from tenants.api import accounts, billing, keys, usage

urlpatterns: list[URLPattern] = [
    path("me", accounts.MeView.as_view()),
    path("api-keys", keys.ApiKeysView.as_view()),
    path("api-keys/<str:key_id>", keys.ApiKeyView.as_view()),
    path("usage", usage.UsageView.as_view()),
    path("invoices", billing.InvoicesView.as_view()),
    path("invoices/<str:invoice_id>.pdf", billing.InvoicePdfView.as_view()),
    path("invoices/<str:invoice_id>.csv", billing.InvoiceCsvView.as_view()),
    path("invoices/<str:invoice_id>", billing.InvoiceView.as_view()),
    path("credit", billing.CreditView.as_view()),
    path("credit/entries", billing.CreditEntriesView.as_view()),
]
