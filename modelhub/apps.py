"""What is served: data sets, training, the registry."""

from django.apps import AppConfig


class ModelhubConfig(AppConfig):
    name = "modelhub"
