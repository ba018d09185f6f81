"""The operator's pages of this app, a module each noun."""

from modelhub.admin import datasets

__all__ = ["datasets"]
