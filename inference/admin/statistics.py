"""Statistics of deployments in the admin: read only, servers bring them."""

from django.contrib import admin

from inference.models import DeploymentStatistics, StatisticsSource
from tenants.admin.base import ReadOnlyAdmin


@admin.register(DeploymentStatistics)
class DeploymentStatisticsAdmin(ReadOnlyAdmin):
    list_display = (
        "start",
        "width",
        "tenant",
        "deployment",
        "version",
        "answered",
        "client_errors",
        "server_errors",
        "rows",
    )
    list_filter = ("width", "tenant", "start")
    list_select_related = ("tenant",)
    search_fields = ("deployment", "version", "tenant__name")
    ordering = ("-start",)


@admin.register(StatisticsSource)
class StatisticsSourceAdmin(ReadOnlyAdmin):
    """Which server processes bring statistics, and when they did last."""

    list_display = ("id", "parcel", "at")
    search_fields = ("id",)
    date_hierarchy = "at"
    ordering = ("-at",)
