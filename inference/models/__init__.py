"""This app's tables, a module for each noun."""

from inference.models.deployments import Deployment

__all__ = ["Deployment"]
