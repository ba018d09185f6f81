"""Webhooks: notices posted to the URLs that tenants registered, signed, and tried again until they arrive."""
