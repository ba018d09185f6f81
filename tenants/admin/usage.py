"""The ledger: hourly, daily and monthly sums, the segments they came from, those it refused, and who wrote them."""

from django.contrib import admin
from django.http import HttpRequest

from tenants.admin.base import Form, ReadOnlyAdmin, VerbAdmin, actor
from tenants.admin.reports import ReportPages
from tenants.ledger import producers
from tenants.models import RejectedSegment, UsageDay, UsageHour, UsageMonth, UsageProducer, UsageSegment


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


@admin.register(RejectedSegment)
class RejectedSegmentAdmin(ReadOnlyAdmin):
    list_display = ["id", "producer", "host", "reason", "rejected_at"]
    search_fields = ["id", "producer", "host", "reason"]
    date_hierarchy = "rejected_at"
    ordering = ["-rejected_at", "id"]


@admin.register(UsageProducer)
class UsageProducerAdmin(VerbAdmin):
    """A dead one is written off by filling in why."""

    list_display = ("id", "started_at", "seen_at", "watermark", "drained_at", "written_off_at")
    list_filter = [("drained_at", admin.EmptyFieldListFilter), ("written_off_at", admin.EmptyFieldListFilter)]
    search_fields = ["id"]
    date_hierarchy = "started_at"
    ordering = ["-started_at", "id"]
    told = (*list_display, "records_at_once", "written_off_by")
    fields = (*told, "written_off_because")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: UsageProducer | None = None) -> bool:
        return self._may(request, "change")

    def get_readonly_fields(self, request: HttpRequest, obj: UsageProducer | None = None) -> tuple[str, ...]:
        return self.told if obj is not None and not obj.written_off_at else (*self.told, "written_off_because")

    def save_model(self, request: HttpRequest, obj: UsageProducer, form: Form, change: bool) -> None:
        producers.write_off(producer=obj.pk, reason=form.cleaned_data["written_off_because"], actor=actor(request))
