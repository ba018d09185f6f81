"""The audit trail: who did what, when and from where."""

from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import audit_trail
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView
from tenants.audit_trail import Filter
from tenants.models import AuditEvent

MAY_READ = ("manage", "billing")


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    sequence = serializers.IntegerField(help_text="its place in the tenant's chain: 1, 2, 3 …")
    detail = serializers.DictField(help_text="what else the verb was told")

    class Meta:
        model = AuditEvent
        fields = [
            "id", "sequence", "at", "actor", "verb", "subject", "detail", "address", "forwarded_for", "user_agent",
            "request_id", "previous_hash", "hash",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "actor": {"help_text": "`key:ID`, `member:NAME`, `operator:NAME`, or a program of the site"},
            "verb": {"help_text": "`noun.verb`, as `api_key.revoke`"},
            "subject": {"help_text": "the id or name of what it was done to"},
            "address": {"help_text": "where the connection came from; of a command or worker, its host"},
            "forwarded_for": {"help_text": "what the proxies before it claim: X-Forwarded-For"},
            "request_id": {"help_text": "X-Request-Id of the answer; empty where it was no request"},
            "previous_hash": {"help_text": "the hash of the row before"},
        }


class AuditFilter(StrictSerializer):
    verb = serializers.CharField(required=False, help_text="only this verb, as `api_key.revoke`")
    actor = serializers.CharField(required=False, help_text="only what this one did, as `member:ann@acme.example`")
    subject = serializers.CharField(required=False, help_text="only what was done to this id or name")

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python, so these two cannot be declared above.
        since = serializers.DateTimeField(required=False, help_text="the first moment; ISO 8601, a + is %2B in a URL")
        until = serializers.DateTimeField(required=False, help_text="the first moment after the last one")
        return {"from": since, "to": until} | super().get_fields()

    @staticmethod
    def wanted(query: dict[str, Any]) -> Filter:
        return Filter(
            verb=query.get("verb", ""),
            actor=query.get("actor", ""),
            subject=query.get("subject", ""),
            start=query.get("from"),
            end=query.get("to"),
        )


class AuditQuery(AuditFilter, PageQuery):
    pass


class AuditEventsView(TenantView):
    """The tenant's audit trail."""

    scopes = {"GET": MAY_READ}

    @extend_schema(
        operation_id="list_audit_events",
        tags=["Audit trail"],
        parameters=[AuditQuery],
        responses=openapi.answers(200, openapi.page_of(AuditEventSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """Who did what, newest first. Rows are never changed or removed, and each holds the hash of the one before."""
        wanted = AuditQuery.wanted(self.query(AuditQuery))
        return self.page(audit_trail.rows(tenant=self.caller.tenant, wanted=wanted), AuditEventSerializer)


class AuditFileView(TenantView):
    """The tenant's audit trail as a file."""

    scopes = {"GET": MAY_READ}

    @extend_schema(
        operation_id="download_audit_events",
        tags=["Audit trail"],
        parameters=[AuditFilter],
        responses={key: value for key, value in openapi.answers(200, None, 400).items() if key != 200}
        | {(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """The same rows as a CSV file, newest first. At most 50,000; more are refused: narrow `from` and `to`."""
        wanted = AuditFilter.wanted(self.query(AuditFilter))
        text = audit_trail.as_csv(tenant=self.caller.tenant, wanted=wanted)
        return HttpResponse(
            text,
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="audit-events.csv"'},
        )
