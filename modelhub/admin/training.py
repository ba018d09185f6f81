"""Training jobs and their logs in the admin: read, and cancelled by the verb."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from modelhub import training
from modelhub.admin import links
from modelhub.models import ModelVersion, TrainingJob, TrainingLogLine
from tenants.admin.base import ReadOnlyAdmin, actor
from tenants.errors import Refusal


@admin.register(TrainingJob)
class TrainingJobAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "tenant",
        "state",
        "model_name",
        "recipe",
        "dataset_link",
        "attempt",
        "trainer",
        "training_seconds",
        "created_at",
        "finished_at",
    )
    list_filter = ("state", "recipe", "created_at")
    list_select_related = ("tenant", "dataset")
    search_fields = ("id", "model_name", "tenant__name", "dataset__name", "dataset__id", "trainer", "error")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    actions = ("cancel",)
    fields = (
        "id",
        "tenant",
        "state",
        "error",
        "budget",
        "budget_currency",
        "stop_reason",
        "warm_start_link",
        "dataset_link",
        "version_link",
        "log_link",
        "model_name",
        "recipe",
        "parameters",
        "progress",
        "history",
        "attempt",
        "trainer",
        "lease_until",
        "training_seconds",
        "created_by",
        "created_at",
        "started_at",
        "cancel_requested_at",
        "keep_best",
        "checkpoint",
        "finished_at",
    )
    readonly_fields = fields

    @admin.display(description="data set", ordering="dataset")
    def dataset_link(self, job: TrainingJob) -> str:
        return links.to(job.dataset)

    @admin.display(description="begins with")
    def warm_start_link(self, job: TrainingJob) -> str:
        return links.to(job.warm_start)

    @admin.display(description="version")
    def version_link(self, job: TrainingJob) -> str:
        return links.to(ModelVersion.objects.for_tenant(job.tenant_id).select_related("model").filter(job=job).first())

    @admin.display(description="log")
    def log_link(self, job: TrainingJob) -> str:
        return links.to_list(TrainingLogLine, "its lines", job__id__exact=job.pk)

    @admin.action(description="Cancel: waiting jobs at once, running ones within two seconds", permissions=["cancel"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[TrainingJob]) -> None:
        """Cancels those that are under way, and says why the others are not."""
        done = 0
        for job in jobs:
            try:
                training.cancel(job=job, actor=actor(request), now=timezone.now())
                done += 1
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.WARNING)
        self.message_user(request, f"{done} cancelled.", messages.SUCCESS if done else messages.INFO)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("modelhub.change_trainingjob")


@admin.register(TrainingLogLine)
class TrainingLogLineAdmin(ReadOnlyAdmin):
    list_display = ("job_link", "number", "at", "text")
    list_filter = ("at",)
    list_select_related = ("job",)
    search_fields = ("=job__id", "text")
    ordering = ("-job_id", "number")

    @admin.display(description="job", ordering="job")
    def job_link(self, line: TrainingLogLine) -> str:
        return links.to(line.job)
