"""The ledger: sums of hours, days and months, the segments they came from, and the processes that wrote them."""

from django.contrib import admin

from tenants.admin.base import ReadOnlyAdmin
from tenants.admin.reports import ReportPages
from tenants.models import UsageDay, UsageHour, UsageMonth, UsageProducer, UsageSegment


@admin.register(UsageHour)
class UsageHourAdmin(ReadOnlyAdmin):
    list_display = ["hour", "tenant", "key", "deployment", "version", "meter", "quantity"]
    list_filter = ["meter"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id", "key", "deployment", "version"]
    date_hierarchy = "hour"
    ordering = ["-hour", "-id"]
    fields = ["hour", "tenant", "key", "deployment", "version", "meter", "quantity"]


@admin.register(UsageDay)
class UsageDayAdmin(ReadOnlyAdmin):
    list_display = ["day", "tenant", "key", "deployment", "version", "meter", "quantity"]
    list_filter = ["meter"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id", "key", "deployment", "version"]
    date_hierarchy = "day"
    ordering = ["-day", "-id"]
    fields = ["day", "tenant", "key", "deployment", "version", "meter", "quantity"]


@admin.register(UsageMonth)
class UsageMonthAdmin(ReportPages, ReadOnlyAdmin):
    list_display = ["month", "tenant", "meter", "quantity"]
    list_filter = ["meter"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id"]
    date_hierarchy = "month"
    ordering = ["-month", "-id"]
    fields = ["month", "tenant", "meter", "quantity"]
    change_list_template = "admin/tenants/usagemonth/change_list.html"


@admin.register(UsageSegment)
class UsageSegmentAdmin(ReadOnlyAdmin):
    list_display = ["id", "producer", "events", "first_event_at", "last_event_at", "arrived_at"]
    search_fields = ["id", "producer", "sha256"]
    date_hierarchy = "arrived_at"
    ordering = ["-arrived_at", "id"]


@admin.register(UsageProducer)
class UsageProducerAdmin(ReadOnlyAdmin):
    list_display = ["id", "started_at", "watermark", "drained_at"]
    list_filter = [("drained_at", admin.EmptyFieldListFilter)]
    search_fields = ["id"]
    date_hierarchy = "started_at"
    ordering = ["-started_at", "id"]
