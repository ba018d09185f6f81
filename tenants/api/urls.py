"""Paths of this app under /api/v1/."""

from django.urls import URLPattern, path

from tenants.api import accounts, audit, billing, keys, usage

urlpatterns: list[URLPattern] = [
    path("me", accounts.MeView.as_view()),
    path("api-keys", keys.ApiKeysView.as_view()),
    path("api-keys/<str:key_id>", keys.ApiKeyView.as_view()),
    path("audit-events", audit.AuditEventsView.as_view()),
    path("audit-events.csv", audit.AuditFileView.as_view()),
    path("usage", usage.UsageView.as_view()),
    path("invoices", billing.InvoicesView.as_view()),
    path("invoices/<str:month>", billing.InvoiceView.as_view()),
]
