"""How it is served: deployments and the prediction plane."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from inference import deployments
        from tenants import quota_limits

        quota_limits.know_deployments(deployments.exists)
