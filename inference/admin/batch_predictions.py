"""Batch predictions in the admin: read, and cancelled by the verb."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from inference import batch_predictions
from inference.models import BatchPrediction
from tenants.admin.base import ReadOnlyAdmin, actor
from tenants.errors import Refusal


@admin.register(BatchPrediction)
class BatchPredictionAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "tenant",
        "state",
        "deployment_name",
        "version",
        "dataset",
        "rows_done",
        "rows_failed",
        "rows_total",
        "worker",
        "created_at",
        "finished_at",
    )
    list_filter = ("state", "created_at")
    list_select_related = ("tenant", "dataset", "version__model")
    search_fields = ("id", "deployment_name", "tenant__name", "dataset__name", "dataset__id", "worker", "error")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    actions = ("cancel",)

    @admin.action(description="Cancel: waiting jobs at once, running ones within two seconds", permissions=["cancel"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[BatchPrediction]) -> None:
        """Cancels those that are under way, and says why the others are not."""
        done = 0
        for job in jobs:
            try:
                batch_predictions.cancel(job=job, actor=actor(request), now=timezone.now())
                done += 1
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.WARNING)
        self.message_user(request, f"{done} cancelled.", messages.SUCCESS if done else messages.INFO)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inference.change_batchprediction")
