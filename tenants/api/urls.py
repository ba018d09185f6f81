"""Paths of this app under /api/v1/."""

from django.urls import URLPattern, path

from tenants.api import accounts, billing, keys, quotas, usage

urlpatterns: list[URLPattern] = [
    path("me", accounts.MeView.as_view()),
    path("api-keys", keys.ApiKeysView.as_view()),
    path("api-keys/<str:key_id>", keys.ApiKeyView.as_view()),
    path("quotas", quotas.QuotasView.as_view()),
    path("quota-limits", quotas.QuotaLimitsView.as_view()),
    path("quota-limits/<str:limit_id>", quotas.QuotaLimitView.as_view()),
    path("spend-cap", quotas.SpendCapView.as_view()),
    path("usage", usage.UsageView.as_view()),
    path("invoices", billing.InvoicesView.as_view()),
    path("invoices/<str:month>", billing.InvoiceView.as_view()),
]
