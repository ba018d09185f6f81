"""Quotas: what each period allows, what of it is used, and who holds the rest."""

from django.contrib import admin

from tenants.admin.base import ReadOnlyAdmin
from tenants.models import QuotaBucket, QuotaLease


@admin.register(QuotaBucket)
class QuotaBucketAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "scope", "meter", "period", "period_start", "limit", "consumed", "leased"]
    list_filter = ["period", "meter"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id"]
    date_hierarchy = "period_start"
    ordering = ["-period_start", "-id"]
    fields = ["tenant", "scope", "meter", "period", "period_start", "limit", "consumed", "leased"]


@admin.register(QuotaLease)
class QuotaLeaseAdmin(ReadOnlyAdmin):
    list_display = ["producer", "tenant", "bucket", "units"]
    list_filter = ["bucket__period"]
    list_select_related = ["tenant", "bucket"]
    search_fields = ["producer", "tenant__name", "tenant__id"]
    ordering = ["-id"]
    fields = ["producer", "tenant", "bucket", "units"]
