"""The site as an app: its commands and its system checks."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "aiaas_site"

    def ready(self) -> None:
        from aiaas_site import checks  # noqa: F401 (registers them)
