"""Models and versions in the admin: read only, as versions never change."""

from django.contrib import admin

from modelhub.admin import links
from modelhub.models import Model, ModelVersion
from tenants.admin.base import ReadOnlyAdmin


@admin.register(Model)
class ModelAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "latest", "versions", "created_at")
    list_filter = ("created_at",)
    list_select_related = ("tenant",)
    search_fields = ("id", "name", "tenant__name")
    date_hierarchy = "created_at"
    ordering = ("-id",)

    @admin.display(description="versions")
    def versions(self, model: Model) -> str:
        return links.to_list(ModelVersion, "its versions", model__id__exact=model.pk)


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "tenant", "recipe", "accuracy", "served", "job_link", "dataset_link", "created_at")
    list_filter = ("recipe", "created_at")
    list_select_related = ("tenant", "model", "job", "dataset")
    search_fields = ("id", "model__name", "tenant__name", "=manifest_sha256", "=dataset_sha256", "job__id")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    fields = (
        "id",
        "tenant",
        "model",
        "number",
        "recipe",
        "job_link",
        "dataset_link",
        "dataset_sha256",
        "provenance",
        "metrics",
        "parameters",
        "manifest",
        "manifest_sha256",
        "created_at",
    )
    readonly_fields = fields

    @admin.display(description="accuracy")
    def accuracy(self, version: ModelVersion) -> str:
        accuracy = version.metrics.get("accuracy")
        return "-" if accuracy is None else f"{accuracy:.3f}"

    @admin.display(description="serves")
    def served(self, version: ModelVersion) -> str:
        return str(version.manifest["serving"]["file"])

    @admin.display(description="provenance of the data")
    def provenance(self, version: ModelVersion) -> str:
        found = version.manifest.get("provenance") or {}
        return "; ".join(f"{name}: {value}" for name, value in found.items() if value != "") or "-"

    @admin.display(description="job", ordering="job")
    def job_link(self, version: ModelVersion) -> str:
        return links.to(version.job)

    @admin.display(description="data set", ordering="dataset")
    def dataset_link(self, version: ModelVersion) -> str:
        return links.to(version.dataset)
