"""Data sets and stored files, to look at; what changes them are the verbs."""

from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest
from django.utils import timezone

from modelhub import datasets
from modelhub.models import Blob, Dataset
from tenants.errors import Refusal


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that are looked at and not edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@admin.register(Dataset)
class DatasetAdmin(ReadOnly):
    list_display = ["id", "tenant", "name", "kind", "state", "items", "size", "created_at", "sealed_at"]
    list_filter = ["state", "kind", "created_at"]
    list_select_related = ["tenant"]
    search_fields = ["id", "name", "tenant__name", "manifest_sha256"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["seal"]

    @admin.action(description="Seal: the content never changes from now on", permissions=["seal"])
    def seal(self, request: HttpRequest, rows: models.QuerySet[Dataset]) -> None:
        """Seals those that have been checked, and says why the others are not."""
        sealed = 0
        for dataset in rows:
            try:
                datasets.seal(dataset=dataset, actor=f"operator:{request.user.get_username()}", now=timezone.now())
                sealed += 1
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.WARNING)
        self.message_user(request, f"{sealed} sealed.", messages.SUCCESS if sealed else messages.INFO)

    def has_seal_permission(self, request: HttpRequest) -> bool:
        """Who may change data sets by Django's permissions may seal them; the form itself stays read-only."""
        return request.user.has_perm("modelhub.change_dataset")


@admin.register(Blob)
class BlobAdmin(ReadOnly):
    list_display = ["sha256", "tenant", "size", "stored_at", "erased_at"]
    list_filter = [("erased_at", admin.EmptyFieldListFilter), "stored_at"]
    list_select_related = ["tenant"]
    search_fields = ["=sha256", "tenant__name"]
    ordering = ["-id"]
    show_full_result_count = False
