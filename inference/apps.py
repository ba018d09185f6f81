"""How it is served: deployments and the prediction plane."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
