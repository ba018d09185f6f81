"""Deployments in the admin: seen, paused, rolled back and ended by the verbs."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from inference import deployments
from inference.models import Deployment, DeploymentLabel, DeploymentTarget
from tenants.admin.base import Inline, ReadOnlyAdmin, actor
from tenants.errors import Refusal


class _ReadOnlyInline(Inline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TargetInline(_ReadOnlyInline):
    model = DeploymentTarget
    verbose_name_plural = "canaries, in percent"


class LabelInline(_ReadOnlyInline):
    model = DeploymentLabel


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    """Read-only; a customer points a deployment, an operator may pause, roll back and end it."""

    list_display = ("name", "tenant", "version", "split", "shadow", "paused", "updated_at")
    list_filter = ("paused", "tenant")
    list_select_related = ("tenant", "version__model", "shadow__model")
    search_fields = ("name", "id", "tenant__name", "version__model__name")
    date_hierarchy = "updated_at"
    actions = ("pause_deployments", "resume_deployments", "roll_back_deployments", "delete_deployments")
    inlines = (TargetInline, LabelInline)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return deployments.with_versions(super().get_queryset(request))

    @admin.display(description="canaries")
    def split(self, row: Deployment) -> str:
        return ", ".join(str(one) for one in row.targets.all()) or "–"

    @admin.action(description="Pause the selected deployments (predictions are refused)", permissions=["end"])
    def pause_deployments(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        self._each(request, rows, deployments.pause, "No longer answering")

    @admin.action(description="Resume the selected deployments", permissions=["end"])
    def resume_deployments(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        self._each(request, rows, deployments.resume, "Answering again")

    @admin.action(description="Roll the selected deployments back", permissions=["end"])
    def roll_back_deployments(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        self._each(request, rows, deployments.roll_back, "Rolled back")

    @admin.action(description="Delete the selected deployments (their versions stay)", permissions=["end"])
    def delete_deployments(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        for row in rows.select_related("tenant"):
            deployments.delete(tenant=row.tenant, name=row.name, actor=actor(request))
        self.message_user(request, "The deployments no longer answer.", messages.SUCCESS)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inference.delete_deployment")

    def _each(
        self, request: HttpRequest, rows: QuerySet[Deployment], verb: Callable[..., Deployment], words: str
    ) -> None:
        """Carries a verb out for each; what it refuses is shown, and the others go on."""
        done = []
        for row in rows.select_related("tenant"):
            try:
                verb(tenant=row.tenant, name=row.name, actor=actor(request), now=timezone.now())
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.ERROR)
            else:
                done.append(row.name)
        if done:
            self.message_user(request, f"{words}: {', '.join(done)}.", messages.SUCCESS)
