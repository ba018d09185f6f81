"""Searches in the admin: read, and cancelled by the verb."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from modelhub import searches
from modelhub.admin import links
from modelhub.admin.cancelling import CancellableAdmin
from modelhub.models import Search, TrainingJob
from tenants.admin.base import actor


@admin.register(Search)
class SearchAdmin(CancellableAdmin):
    list_display = ("id", "tenant", "model_name", "recipe", "method", "dataset_link", "created_at")
    list_filter = ("method", "recipe", "created_at")
    list_select_related = ("tenant", "dataset")
    search_fields = ("id", "model_name", "tenant__name", "dataset__name", "dataset__id")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    fields = (
        "id",
        "tenant",
        "state",
        "best",
        "jobs_link",
        "dataset_link",
        "model_name",
        "recipe",
        "method",
        "space",
        "parameters",
        "seed",
        "budget",
        "budget_currency",
        "created_by",
        "created_at",
        "cancel_requested_at",
    )
    readonly_fields = fields

    @admin.display(description="state")
    def state(self, search: Search) -> str:
        standing = searches.standing(search)
        counts = ", ".join(f"{count} {state}" for state, count in standing.counts.items() if count)
        return f"{standing.state} ({counts})"

    @admin.display(description="best")
    def best(self, search: Search) -> str:
        best = searches.standing(search).best
        if best is None:
            return "-"
        tried = ", ".join(f"{name} = {best.job.parameters.get(name)}" for name in search.space)
        return f"{best.metric} {best.value:.4g} with {tried} ({best.job.pk})"

    @admin.display(description="trainings")
    def jobs_link(self, search: Search) -> str:
        return links.to_list(TrainingJob, "its trainings", search__id__exact=search.pk)

    @admin.display(description="data set", ordering="dataset")
    def dataset_link(self, search: Search) -> str:
        return links.to(search.dataset)

    def cancel_one(self, request: HttpRequest, job: Search) -> None:
        searches.cancel(search=job, actor=actor(request), now=timezone.now())
