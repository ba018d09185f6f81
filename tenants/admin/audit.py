"""The audit trail with the ends of its chains, and the answers kept for retries."""

from django.contrib import admin

from tenants.admin.base import ReadOnlyAdmin
from tenants.models import AuditEvent, AuditHead, IdempotentAnswer, OperatorEvent, OperatorHead


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "tenant", "sequence", "actor", "verb", "subject", "detail", "address", "request_id"]
    list_filter = ["verb"]
    list_select_related = ["tenant"]
    search_fields = ["actor", "subject", "tenant__name", "tenant__id", "address", "request_id"]
    date_hierarchy = "at"
    ordering = ["-id"]
    fields = [
        "id", "at", "tenant", "actor", "verb", "subject", "detail", "address", "forwarded_for", "user_agent",
        "request_id", "sequence", "previous_hash", "hash",
    ]  # fmt: skip


@admin.register(AuditHead)
class AuditHeadAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "sequence", "hash"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id"]
    ordering = ["tenant__name"]
    fields = ["tenant", "sequence", "hash"]


@admin.register(OperatorEvent)
class OperatorEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "sequence", "actor", "verb", "subject", "detail", "address", "request_id"]
    list_filter = ["verb"]
    search_fields = ["actor", "subject", "address", "request_id"]
    date_hierarchy = "at"
    ordering = ["-id"]
    fields = [
        "id", "at", "actor", "verb", "subject", "detail", "address", "forwarded_for", "user_agent", "request_id",
        "sequence", "previous_hash", "hash",
    ]  # fmt: skip


@admin.register(OperatorHead)
class OperatorHeadAdmin(ReadOnlyAdmin):
    list_display = ["sequence", "hash"]
    search_fields = ["hash"]
    ordering = ["-sequence"]
    fields = ["sequence", "hash"]


@admin.register(IdempotentAnswer)
class IdempotentAnswerAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "tenant", "caller", "key", "status"]
    list_filter = ["status"]
    list_select_related = ["tenant"]
    search_fields = ["key", "caller", "tenant__name"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    fields = ["created_at", "tenant", "caller", "key", "fingerprint", "status", "body"]
