"""Data sets and stored files, to look at; what changes them are the verbs."""

from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest
from django.utils import timezone

from modelhub import datasets
from modelhub.admin import dataset_pages, links
from modelhub.models import Blob, BlobUse, DataKey, Dataset, DatasetUpload, DatasetUploadPart, StorageAccrual
from tenants.admin.base import ReadOnlyAdmin, actor
from tenants.errors import Refusal


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = [
        "id", "tenant", "name", "number", "versions", "kind", "state", "items", "size", "licence", "uploads",
        "created_at", "sealed_at", "retain_until", "erased_at",
    ]  # fmt: skip
    list_filter = ["state", "kind", "created_at", "retain_until"]
    list_select_related = ["tenant"]
    search_fields = ["id", "name", "tenant__name", "manifest_sha256", "=family", "licence", "source"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["seal"]
    exclude = ["report"]
    readonly_fields = ["report_shown", "preview_shown"]

    @admin.display(description="report")
    def report_shown(self, dataset: Dataset) -> str:
        return dataset_pages.report(dataset)

    @admin.display(description="first rows")
    def preview_shown(self, dataset: Dataset) -> str:
        return dataset_pages.preview(dataset)

    @admin.action(description="Seal: the content never changes from now on", permissions=["seal"])
    def seal(self, request: HttpRequest, rows: models.QuerySet[Dataset]) -> None:
        """Seals those that have been checked, and says why the others are not."""
        sealed = 0
        for dataset in rows:
            try:
                datasets.seal(dataset=dataset, actor=actor(request), now=timezone.now())
                sealed += 1
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.WARNING)
        self.message_user(request, f"{sealed} sealed.", messages.SUCCESS if sealed else messages.INFO)

    def has_seal_permission(self, request: HttpRequest) -> bool:
        """Who may change data sets by Django's permissions may seal them; the form itself stays read-only."""
        return request.user.has_perm("modelhub.change_dataset")

    @admin.display(description="versions")
    def versions(self, dataset: Dataset) -> str:
        return links.to_list(Dataset, "its versions", q=dataset.family)

    @admin.display(description="uploads in parts")
    def uploads(self, dataset: Dataset) -> str:
        return links.to_list(DatasetUpload, "its uploads", dataset__id__exact=dataset.pk)


@admin.register(DatasetUpload)
class DatasetUploadAdmin(ReadOnlyAdmin):
    list_display = [
        "id", "tenant", "dataset_link", "state", "mode", "length", "parts", "created_at", "expires_at", "ended_at",
    ]  # fmt: skip
    list_filter = ["state", "mode", "created_at"]
    list_select_related = ["tenant", "dataset"]
    search_fields = ["id", "=dataset__id", "dataset__name", "tenant__name"]
    date_hierarchy = "created_at"
    ordering = ["-id"]

    @admin.display(description="data set", ordering="dataset")
    def dataset_link(self, upload: DatasetUpload) -> str:
        return links.to(upload.dataset)

    @admin.display(description="parts")
    def parts(self, upload: DatasetUpload) -> str:
        return links.to_list(DatasetUploadPart, "its parts", upload__id__exact=upload.pk)


@admin.register(DatasetUploadPart)
class DatasetUploadPartAdmin(ReadOnlyAdmin):
    list_display = ["upload", "tenant", "number", "size", "sha256", "received_at"]
    list_select_related = ["tenant", "upload"]
    search_fields = ["=upload__id", "=sha256", "tenant__name"]
    ordering = ["-upload", "number"]


@admin.register(Blob)
class BlobAdmin(ReadOnlyAdmin):
    list_display = ["sha256", "tenant", "size", "stored_at", "erased_at"]
    list_filter = [("erased_at", admin.EmptyFieldListFilter), "stored_at"]
    list_select_related = ["tenant"]
    search_fields = ["=sha256", "tenant__name"]
    ordering = ["-id"]


@admin.register(BlobUse)
class BlobUseAdmin(ReadOnlyAdmin):
    list_display = ["sha256", "dataset", "tenant"]
    list_select_related = ["tenant", "dataset"]
    search_fields = ["=sha256", "dataset__name", "=dataset__id", "tenant__name"]
    ordering = ["-id"]


@admin.register(DataKey)
class DataKeyAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "created_at", "destroyed_at"]
    list_filter = ["created_at", ("destroyed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name"]
    ordering = ["tenant"]
    fields = ["tenant", "created_at", "destroyed_at"]


@admin.register(StorageAccrual)
class StorageAccrualAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "until"]
    list_filter = ["until"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name"]
    ordering = ["tenant"]
