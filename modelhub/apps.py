"""What is served: data sets, training, the registry."""

from django.apps import AppConfig


class ModelhubConfig(AppConfig):
    name = "modelhub"

    def ready(self) -> None:
        from modelhub.storage import accrual
        from tenants import producers

        if accrual.blocking not in producers.told_later:
            producers.told_later.append(accrual.blocking)
