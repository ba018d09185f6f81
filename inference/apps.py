"""How it is served: deployments and the prediction plane."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from inference import batch_predictions, deployments
        from modelhub.datasets import lifecycle
        from tenants.keys import api_keys
        from tenants.limits import quota_limits

        api_keys.existing_deployments = deployments.existing
        lifecycle.know_holder(batch_predictions.held_files)
        quota_limits.know_deployments(deployments.exists)
