"""Webhooks: the outbox of notices, the endpoints, and the deliveries with each of their tries."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tenants.admin.base import Inline, ReadOnlyAdmin, actor
from tenants.errors import Refusal
from tenants.models import Notice, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import deliveries, endpoints


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "tenant", "kind", "once", "dispatched_at"]
    list_filter = ["kind", ("dispatched_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["id", "once", "tenant__name", "tenant__id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    fields = ["id", "tenant", "kind", "once", "data", "created_at", "dispatched_at"]


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnlyAdmin):
    list_display = ["url", "tenant", "kinds", "disabled", "failing_since", "created_at"]
    list_filter = ["disabled", ("failing_since", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["id", "url", "tenant__name", "tenant__id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["switch_on", "switch_off", "ping"]
    fields = [
        "id", "tenant", "url", "description", "kinds", "disabled", "failing_since", "previous_until", "created_at",
    ]  # fmt: skip

    @admin.action(description="Switch on: what waited is sent", permissions=["operate"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        for row in rows:
            endpoints.change(endpoint=row, active=True, actor=actor(request))
        self.message_user(request, f"Switched on: {', '.join(str(row) for row in rows)}.")

    @admin.action(description="Switch off: what is due waits", permissions=["operate"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        for row in rows:
            endpoints.change(endpoint=row, active=False, actor=actor(request))
        self.message_user(request, f"Switched off: {', '.join(str(row) for row in rows)}.")

    @admin.action(description="Send a test", permissions=["operate"])
    def ping(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        for row in rows:
            try:
                endpoints.ping(endpoint=row, actor=actor(request), now=timezone.now())
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.ERROR)
            else:
                self.message_user(request, f"A test goes to {row}: see its deliveries.", messages.SUCCESS)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.change_webhookendpoint")


class AttemptInline(Inline):
    """The log of a delivery."""

    model = WebhookAttempt
    extra = 0
    can_delete = False
    ordering = ["-id"]
    fields = ["at", "status", "duration_ms", "error", "answer"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "tenant", "endpoint", "notice", "state", "tries", "next_at", "ended_at"]
    list_filter = ["state", "notice__kind"]
    list_select_related = ["tenant", "endpoint", "notice"]
    search_fields = ["id", "notice__id", "endpoint__id", "endpoint__url", "tenant__name", "tenant__id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["replay"]
    inlines = [AttemptInline]
    fields = [
        "id", "tenant", "endpoint", "notice", "state", "tries", "next_at", "claimed_until", "created_at", "ended_at",
    ]  # fmt: skip

    @admin.action(description="Send again", permissions=["operate"])
    def replay(self, request: HttpRequest, rows: QuerySet[WebhookDelivery]) -> None:
        for row in rows:
            try:
                deliveries.replay(delivery=row, actor=actor(request), now=timezone.now())
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.ERROR)
            else:
                self.message_user(request, f"It is sent again: {row}.", messages.SUCCESS)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.change_webhookdelivery")


@admin.register(WebhookAttempt)
class WebhookAttemptAdmin(ReadOnlyAdmin):
    list_display = ["at", "tenant", "delivery", "status", "duration_ms", "error"]
    list_filter = ["status"]
    list_select_related = ["tenant", "delivery"]
    search_fields = ["delivery__id", "error", "tenant__name", "tenant__id"]
    date_hierarchy = "at"
    ordering = ["-id"]
    fields = ["tenant", "delivery", "at", "duration_ms", "status", "error", "answer"]
