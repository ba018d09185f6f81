"""Models and versions in the admin: read only, as versions never change."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from modelhub import charts, comparing
from modelhub.admin import drawings, links
from modelhub.models import Evaluation, Model, ModelVersion
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
        "evaluations_link",
        "confusion",
        "provenance",
        "metrics",
        "parameters",
        "manifest",
        "manifest_sha256",
        "created_at",
    )
    readonly_fields = fields
    actions = ("compare",)

    @admin.action(description="Compare the selected versions of one tenant", permissions=["view"])
    def compare(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> HttpResponse:
        """Goes to the page where they stand side by side."""
        ids = ",".join(sorted(versions.values_list("pk", flat=True)))
        return HttpResponseRedirect(reverse("admin:modelhub_modelversion_compare", query={"ids": ids}))

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.compare_view)
        return [path("compare/", page, name="modelhub_modelversion_compare"), *super().get_urls()]

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """Versions of one tenant side by side, by `?ids=`, parted by commas."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = request.GET.get("ids", "").split(",")[: comparing.MOST + 1]
        rows = self.get_queryset(request).filter(pk__in=ids).select_related("tenant", "model", "dataset").order_by("pk")
        versions = list(rows)
        if len({version.tenant_id for version in versions}) != 1 or len(versions) > comparing.MOST:
            words = f"Expected from 1 to {comparing.MOST} versions of one tenant."
            self.message_user(request, words, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:modelhub_modelversion_changelist"))
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Versions side by side",
            "comparison": comparing.of(versions),
        }
        return TemplateResponse(request, "admin/modelhub/modelversion/compare.html", context)

    @admin.display(description="evaluations")
    def evaluations_link(self, version: ModelVersion) -> str:
        return links.to_list(Evaluation, "its evaluations", version__id__exact=version.pk)

    @admin.display(description="confusion matrix")
    def confusion(self, version: ModelVersion) -> str:
        matrix = version.metrics.get("confusion_matrix")
        if matrix is None:
            return "-"
        return drawings.shown(charts.confusion(matrix, title=str(version)), alt="Confusion matrix")

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
