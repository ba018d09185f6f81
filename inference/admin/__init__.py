"""The operator's view of this app's tables."""

from inference.admin import deployments

__all__ = ["deployments"]
