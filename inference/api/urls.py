"""Paths of this app under /api/v1/; predictions are answered by the plane (`inference/plane/app.py`)."""

from django.urls import path

from inference.api.deployments import DeploymentsView, DeploymentView

urlpatterns = [
    path("deployments", DeploymentsView.as_view(), name="deployments"),
    path("deployments/<str:name>", DeploymentView.as_view(), name="deployment"),
]
