"""Deployments in the admin: seen, and ended by the verb."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from inference import deployments
from inference.models import Deployment
from tenants.admin.base import ReadOnlyAdmin, actor


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    """Read-only; a customer points a deployment, an operator may end it."""

    list_display = ("name", "tenant", "version", "created_at", "updated_at")
    list_filter = ("tenant",)
    list_select_related = ("tenant", "version__model")
    search_fields = ("name", "id", "tenant__name", "version__model__name")
    date_hierarchy = "updated_at"
    actions = ("delete_deployments",)

    @admin.action(description="Delete the selected deployments (their versions stay)", permissions=["end"])
    def delete_deployments(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        for row in rows.select_related("tenant"):
            deployments.delete(tenant=row.tenant, name=row.name, actor=actor(request))
        self.message_user(request, "The deployments no longer answer.", messages.SUCCESS)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inference.delete_deployment")
