"""This app's tables, a module for each noun."""

from inference.models.deployments import Deployment, DeploymentLabel, DeploymentTarget

__all__ = ["Deployment", "DeploymentLabel", "DeploymentTarget"]
