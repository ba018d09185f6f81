"""The operator's view of this app's tables."""

from inference.admin import batch_predictions, deployments, measurements, statistics

__all__ = ["batch_predictions", "deployments", "measurements", "statistics"]
