"""The audit trail, and the answers kept for retries."""

from django.contrib import admin

from tenants.admin.base import ReadOnlyAdmin
from tenants.models import AuditEvent, IdempotentAnswer


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "tenant", "actor", "verb", "subject", "detail"]
    list_filter = ["verb"]
    list_select_related = ["tenant"]
    search_fields = ["actor", "subject", "tenant__name", "tenant__id"]
    date_hierarchy = "at"
    ordering = ["-id"]
    fields = ["id", "at", "tenant", "actor", "verb", "subject", "detail"]


@admin.register(IdempotentAnswer)
class IdempotentAnswerAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "tenant", "caller", "key", "status"]
    list_filter = ["status"]
    list_select_related = ["tenant"]
    search_fields = ["key", "caller", "tenant__name"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    fields = ["created_at", "tenant", "caller", "key", "fingerprint", "status", "body"]
