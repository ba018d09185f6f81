"""The operator's pages for this app's tables."""

from tenants.admin import accounts, api_keys, audit, billing, invoices, operators, quotas, usage, webhooks

__all__ = ["accounts", "api_keys", "audit", "billing", "invoices", "operators", "quotas", "usage", "webhooks"]
