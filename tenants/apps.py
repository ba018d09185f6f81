"""Who may ask, how much, and what it costs."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
