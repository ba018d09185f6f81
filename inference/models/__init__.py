"""This app's tables, a module for each noun."""

from inference.models.batch_predictions import BatchPrediction
from inference.models.deployments import Deployment, DeploymentLabel, DeploymentTarget
from inference.models.measurements import EngineMeasurement
from inference.models.statistics import DeploymentStatistics, StatisticsSource, Width

__all__ = [
    "BatchPrediction",
    "Deployment",
    "DeploymentLabel",
    "DeploymentStatistics",
    "DeploymentTarget",
    "EngineMeasurement",
    "StatisticsSource",
    "Width",
]
