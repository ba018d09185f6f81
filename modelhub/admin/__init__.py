"""The operator's pages of this app, a module each noun."""

from modelhub.admin import datasets, evaluations, registry, searches, training

__all__ = ["datasets", "evaluations", "registry", "searches", "training"]
