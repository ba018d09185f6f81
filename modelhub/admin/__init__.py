"""The operator's pages of this app, a module each noun."""

from modelhub.admin import datasets, registry, training

__all__ = ["datasets", "registry", "training"]
