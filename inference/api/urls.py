"""Paths of this app under /api/v1/; predictions are answered by the plane (`inference/plane/app.py`)."""

from django.urls import path

from inference.api.batch_predictions import (
    BatchPredictionCancelView,
    BatchPredictionResultsView,
    BatchPredictionsView,
    BatchPredictionView,
    BatchQuoteView,
)
from inference.api.deployments import (
    DeploymentsView,
    DeploymentView,
    LabelView,
    PauseView,
    PromoteView,
    ResumeView,
    RollbackView,
)
from inference.api.measurements import MeasurementsView
from inference.api.statistics import StatisticsView

urlpatterns = [
    path("deployments", DeploymentsView.as_view(), name="deployments"),
    path("deployments/<str:name>", DeploymentView.as_view(), name="deployment"),
    path("deployments/<str:name>/statistics", StatisticsView.as_view(), name="deployment-statistics"),
    path("deployments/<str:name>/rollback", RollbackView.as_view(), name="deployment-rollback"),
    path("deployments/<str:name>/promote", PromoteView.as_view(), name="deployment-promote"),
    path("deployments/<str:name>/pause", PauseView.as_view(), name="deployment-pause"),
    path("deployments/<str:name>/resume", ResumeView.as_view(), name="deployment-resume"),
    path("deployments/<str:name>/labels/<str:label>", LabelView.as_view(), name="deployment-label"),
    path("models/<str:name>/versions/<int:number>/measurements", MeasurementsView.as_view(), name="measurements"),
    path("batch-predictions", BatchPredictionsView.as_view(), name="batch-predictions"),
    path("batch-predictions/quote", BatchQuoteView.as_view(), name="batch-quote"),
    path("batch-predictions/<str:job_id>", BatchPredictionView.as_view(), name="batch-prediction"),
    path("batch-predictions/<str:job_id>/cancel", BatchPredictionCancelView.as_view(), name="batch-prediction-cancel"),
    path(
        "batch-predictions/<str:job_id>/results", BatchPredictionResultsView.as_view(), name="batch-prediction-results"
    ),
]
