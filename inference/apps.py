"""How it is served: deployments and the prediction plane."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from inference import deployments
        from tenants import api_keys, quota_limits

        api_keys.existing_deployments = deployments.existing
        quota_limits.know_deployments(deployments.exists)
