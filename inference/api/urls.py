"""Paths of this app under /api/v1/; predictions are answered by the plane (`inference/plane/app.py`)."""

from django.urls import path

from inference.api.batch_predictions import (
    BatchPredictionCancelView,
    BatchPredictionResultsView,
    BatchPredictionsView,
    BatchPredictionView,
)
from inference.api.deployments import DeploymentsView, DeploymentView

urlpatterns = [
    path("deployments", DeploymentsView.as_view(), name="deployments"),
    path("deployments/<str:name>", DeploymentView.as_view(), name="deployment"),
    path("batch-predictions", BatchPredictionsView.as_view(), name="batch-predictions"),
    path("batch-predictions/<str:job_id>", BatchPredictionView.as_view(), name="batch-prediction"),
    path("batch-predictions/<str:job_id>/cancel", BatchPredictionCancelView.as_view(), name="batch-prediction-cancel"),
    path(
        "batch-predictions/<str:job_id>/results", BatchPredictionResultsView.as_view(), name="batch-prediction-results"
    ),
]
