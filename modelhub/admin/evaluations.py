"""Evaluations in the admin: read, and cancelled by the verb."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from modelhub import charts, evaluations
from modelhub.admin import drawings, evaluation_pages, links
from modelhub.admin.cancelling import CancellableAdmin
from modelhub.models import Evaluation
from tenants.admin.base import actor


@admin.register(Evaluation)
class EvaluationAdmin(CancellableAdmin):
    list_display = ("id", "tenant", "state", "version_link", "dataset_link", "split", "training_seconds", "created_at")
    list_filter = ("state", "split", "created_at")
    list_select_related = ("tenant", "dataset", "version__model")
    search_fields = ("id", "version__model__name", "version__id", "tenant__name", "dataset__name", "dataset__id")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    fields = (
        "id",
        "tenant",
        "state",
        "error",
        "version_link",
        "dataset_link",
        "split",
        "slices",
        "confusion",
        "reliability",
        "mistakes_drawn",
        "figures",
        "progress",
        "budget",
        "budget_currency",
        "attempt",
        "trainer",
        "lease_until",
        "training_seconds",
        "created_by",
        "created_at",
        "started_at",
        "cancel_requested_at",
        "finished_at",
    )
    readonly_fields = fields

    @admin.display(description="version", ordering="version")
    def version_link(self, evaluation: Evaluation) -> str:
        return links.to(evaluation.version)

    @admin.display(description="data set", ordering="dataset")
    def dataset_link(self, evaluation: Evaluation) -> str:
        return links.to(evaluation.dataset)

    @admin.display(description="confusion matrix")
    def confusion(self, evaluation: Evaluation) -> str:
        matrix = (evaluation.result or {}).get("metrics", {}).get("confusion_matrix")
        if matrix is None:
            return "-"
        return drawings.shown(charts.confusion(matrix, title=str(evaluation.version)), alt="Confusion matrix")

    @admin.display(description="calibration")
    def reliability(self, evaluation: Evaluation) -> str:
        calibration = (evaluation.result or {}).get("calibration")
        if not calibration:
            return "-"
        return drawings.shown(charts.reliability(calibration, title=str(evaluation.version)), alt="Calibration")

    @admin.display(description="mistakes")
    def mistakes_drawn(self, evaluation: Evaluation) -> str:
        if evaluation.result is None:
            return "-"
        return drawings.shown(charts.mistakes(evaluation.mistakes, title=str(evaluation.version)), alt="Mistakes")

    @admin.display(description="figures")
    def figures(self, evaluation: Evaluation) -> str:
        return evaluation_pages.figures(evaluation)

    def cancel_one(self, request: HttpRequest, job: Evaluation) -> None:
        evaluations.cancel(evaluation=job, actor=actor(request), now=timezone.now())
