"""Paths of this app under /api/v1/."""

from django.urls import path

from modelhub.api import (
    comparing,
    dataset_previews,
    dataset_versions,
    datasets,
    evaluations,
    recipes,
    registry,
    searches,
    training,
    uploads,
)

urlpatterns = [
    path("datasets", datasets.DatasetsView.as_view(), name="datasets"),
    path("datasets/<str:dataset_id>", datasets.DatasetView.as_view(), name="dataset"),
    path("datasets/<str:dataset_id>/content", datasets.DatasetContentView.as_view(), name="dataset-content"),
    path("datasets/<str:dataset_id>/preview", dataset_previews.DatasetPreviewView.as_view(), name="dataset-preview"),
    path(
        "datasets/<str:dataset_id>/items/<str:sha256>/thumbnail",
        dataset_previews.DatasetThumbnailView.as_view(),
        name="dataset-thumbnail",
    ),
    path(
        "datasets/<str:dataset_id>/items/<str:sha256>/waveform",
        dataset_previews.DatasetWaveformView.as_view(),
        name="dataset-waveform",
    ),
    path("datasets/<str:dataset_id>/seal", datasets.DatasetSealView.as_view(), name="dataset-seal"),
    path("datasets/<str:dataset_id>/versions", dataset_versions.DatasetVersionsView.as_view(), name="dataset-versions"),
    path("datasets/<str:dataset_id>/export", dataset_versions.DatasetExportView.as_view(), name="dataset-export"),
    path("datasets/<str:dataset_id>/uploads", uploads.DatasetUploadsView.as_view(), name="dataset-uploads"),
    path(
        "datasets/<str:dataset_id>/uploads/<str:upload_id>", uploads.DatasetUploadView.as_view(), name="dataset-upload"
    ),
    path(
        "datasets/<str:dataset_id>/uploads/<str:upload_id>/parts/<int:number>",
        uploads.DatasetUploadPartView.as_view(),
        name="dataset-upload-part",
    ),
    path(
        "datasets/<str:dataset_id>/uploads/<str:upload_id>/complete",
        uploads.DatasetUploadCompleteView.as_view(),
        name="dataset-upload-complete",
    ),
    path("recipes", recipes.RecipesView.as_view(), name="recipes"),
    path("training-jobs", training.TrainingJobsView.as_view(), name="training-jobs"),
    path("training-jobs/quote", training.TrainingQuoteView.as_view(), name="training-quote"),
    path("training-jobs/<str:job_id>", training.TrainingJobView.as_view(), name="training-job"),
    path("training-jobs/<str:job_id>/cancel", training.TrainingJobCancelView.as_view(), name="training-job-cancel"),
    path("training-jobs/<str:job_id>/retrain", training.TrainingJobRetrainView.as_view(), name="training-job-retrain"),
    path("training-jobs/<str:job_id>/logs", training.TrainingJobLogsView.as_view(), name="training-job-logs"),
    path("training-jobs/<str:job_id>/curves.svg", training.TrainingJobCurvesView.as_view(), name="training-job-curves"),
    path("searches", searches.SearchesView.as_view(), name="searches"),
    path("searches/quote", searches.SearchQuoteView.as_view(), name="search-quote"),
    path("searches/<str:search_id>", searches.SearchView.as_view(), name="search"),
    path("searches/<str:search_id>/cancel", searches.SearchCancelView.as_view(), name="search-cancel"),
    path("evaluations", evaluations.EvaluationsView.as_view(), name="evaluations"),
    path("evaluations/quote", evaluations.EvaluationQuoteView.as_view(), name="evaluation-quote"),
    path("evaluations/<str:evaluation_id>", evaluations.EvaluationView.as_view(), name="evaluation"),
    path(
        "evaluations/<str:evaluation_id>/cancel", evaluations.EvaluationCancelView.as_view(), name="evaluation-cancel"
    ),
    path(
        "evaluations/<str:evaluation_id>/<str:drawing>.svg",
        evaluations.EvaluationDrawingView.as_view(),
        name="evaluation-drawing",
    ),
    path("models", registry.ModelsView.as_view(), name="models"),
    path("models/<str:name>", registry.ModelView.as_view(), name="model"),
    path("models/<str:name>/versions", registry.ModelVersionsView.as_view(), name="model-versions"),
    path("models/<str:name>/versions/<int:number>", registry.ModelVersionView.as_view(), name="model-version"),
    path(
        "models/<str:name>/versions/<int:number>/confusion.svg",
        registry.ModelVersionConfusionView.as_view(),
        name="model-version-confusion",
    ),
    path("models/<str:name>/compare", comparing.CompareView.as_view(), name="model-compare"),
]
