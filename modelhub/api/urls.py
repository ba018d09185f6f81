"""Paths of this app under /api/v1/."""

from django.urls import path

from modelhub.api import datasets

urlpatterns = [
    path("datasets", datasets.DatasetsView.as_view(), name="datasets"),
    path("datasets/<str:dataset_id>", datasets.DatasetView.as_view(), name="dataset"),
    path("datasets/<str:dataset_id>/content", datasets.DatasetContentView.as_view(), name="dataset-content"),
    path("datasets/<str:dataset_id>/seal", datasets.DatasetSealView.as_view(), name="dataset-seal"),
]
