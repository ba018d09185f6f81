"""Paths of this app under /api/v1/."""

from django.urls import URLPattern, path

from tenants.api import accounts, audit, billing, keys, quotas, usage, webhooks

urlpatterns: list[URLPattern] = [
    path("me", accounts.MeView.as_view()),
    path("api-keys", keys.ApiKeysView.as_view()),
    path("api-keys/<str:key_id>", keys.ApiKeyView.as_view()),
    path("api-keys/<str:key_id>/rotate", keys.ApiKeyRotationView.as_view()),
    path("leaked-keys", keys.LeakedKeysView.as_view()),
    path("audit-events", audit.AuditEventsView.as_view()),
    path("audit-events.csv", audit.AuditFileView.as_view()),
    path("webhook-endpoints", webhooks.WebhookEndpointsView.as_view()),
    path("webhook-endpoints/<str:endpoint_id>", webhooks.WebhookEndpointView.as_view()),
    path("webhook-endpoints/<str:endpoint_id>/rotate-secret", webhooks.RotateSecretView.as_view()),
    path("webhook-endpoints/<str:endpoint_id>/test", webhooks.PingView.as_view()),
    path("webhook-endpoints/<str:endpoint_id>/replay", webhooks.ReplaySinceView.as_view()),
    path("webhook-deliveries", webhooks.WebhookDeliveriesView.as_view()),
    path("webhook-deliveries/<str:delivery_id>", webhooks.WebhookDeliveryView.as_view()),
    path("webhook-deliveries/<str:delivery_id>/attempts", webhooks.WebhookAttemptsView.as_view()),
    path("webhook-deliveries/<str:delivery_id>/replay", webhooks.ReplayView.as_view()),
    path("quotas", quotas.QuotasView.as_view()),
    path("quota-limits", quotas.QuotaLimitsView.as_view()),
    path("quota-limits/<str:limit_id>", quotas.QuotaLimitView.as_view()),
    path("spend-cap", quotas.SpendCapView.as_view()),
    path("usage", usage.UsageView.as_view()),
    path("invoices", billing.InvoicesView.as_view()),
    path("invoices/<str:invoice_id>.pdf", billing.InvoicePdfView.as_view()),
    path("invoices/<str:invoice_id>.csv", billing.InvoiceCsvView.as_view()),
    path("invoices/<str:invoice_id>", billing.InvoiceView.as_view()),
    path("credit", billing.CreditView.as_view()),
    path("credit/entries", billing.CreditEntriesView.as_view()),
]
