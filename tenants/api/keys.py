"""API keys: list, create, read, rotate, revoke, and the report of one that was found."""

import time
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import scoping
from tenants.api import openapi
from tenants.api.authentication import sender
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.keys import api_keys
from tenants.limits import rates
from tenants.models import ApiKey

LEAK_REPORTS_PER_MINUTE = 30
THANKS = "Thank you. If this is the text of a key that works, it is revoked now and its owner is told."

leak_reports = rates.Bound(LEAK_REPORTS_PER_MINUTE)


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=api_keys.SCOPES))
    networks = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="the only networks it works from; null: any"
    )
    deployments = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="the only deployments it may call; null: all"
    )
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="to a minute or two; null: never")
    replaces = serializers.CharField(
        source="replaces_id", allow_null=True, help_text="the id of the key that it was rotated from"
    )
    replaced_by = serializers.CharField(
        source="replaced_by.id", default=None, allow_null=True, help_text="the id of its successor"
    )

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "prefix", "scopes", "networks", "deployments", "created_at", "expires_at", "revoked_at",
            "last_used_at", "replaces", "replaced_by",
        ]  # fmt: skip
        read_only_fields = fields


class NewApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(
        allow_null=True, help_text="The key itself: shown here and never again; null where a retry gets this answer."
    )

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]
        read_only_fields = fields


class CreateApiKeySerializer(StrictSerializer):
    name = serializers.CharField(max_length=api_keys.NAME_LENGTH, help_text="what the key is for")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=api_keys.SCOPES),
        allow_empty=False,
        help_text="what the key may do; at most what its maker may",
    )
    networks = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        allow_null=True,
        allow_empty=False,
        max_length=api_keys.MOST_NETWORKS,
        help_text="the only networks that it works from, as 192.0.2.0/24 or 2001:db8::/32; from anywhere if absent",
    )
    deployments = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        allow_null=True,
        allow_empty=False,
        max_length=api_keys.MOST_DEPLOYMENTS,
        help_text="the names of the only deployments that it may call; all if absent. Not with the scope manage",
    )
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="when it stops; never if absent. ISO 8601, UTC unless it says other"
    )


class RotateApiKeySerializer(StrictSerializer):
    grace_seconds = serializers.IntegerField(
        required=False,
        default=int(api_keys.GRACE.total_seconds()),
        min_value=0,
        max_value=int(api_keys.MOST_GRACE.total_seconds()),
        help_text="how long the old key goes on working; 0: it stops now",
    )


class LeakedKeySerializer(StrictSerializer):
    key = serializers.CharField(max_length=1000, help_text="the whole key, as it was found")


class LeakedKeyAnswerSerializer(serializers.Serializer[Any]):
    detail = serializers.CharField(help_text="the same for every text that has the form of a key")


class ApiKeyQuery(PageQuery):
    active = serializers.BooleanField(required=False, help_text="only keys that work now (true), or do not (false)")


class ApiKeysView(TenantView):
    """The tenant's keys."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="list_api_keys",
        tags=["API keys"],
        parameters=[ApiKeyQuery],
        responses=openapi.answers(200, openapi.page_of(ApiKeySerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's keys, newest first, those that were revoked or have expired too; never their text."""
        query = self.query(ApiKeyQuery)
        rows = ApiKey.objects.for_tenant(self.caller.tenant).select_related("successor")
        if "active" in query:
            works = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
            rows = rows.filter(works if query["active"] else ~works)
        return self.page(rows, ApiKeySerializer)

    @extend_schema(
        operation_id="create_api_key",
        tags=["API keys"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=CreateApiKeySerializer,
        responses=openapi.answers(201, NewApiKeySerializer, 400, 409),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Makes a key. This answer is the only one that shows it."""
        wanted = self.body(CreateApiKeySerializer)
        new = api_keys.create(
            tenant=self.caller.tenant,
            name=wanted["name"],
            scopes=wanted["scopes"],
            may_grant=self.caller.rights,
            networks=wanted.get("networks"),
            deployments=wanted.get("deployments"),
            expires_at=wanted.get("expires_at"),
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response({**ApiKeySerializer(new.row).data, "key": new.text}, status=201)

    def without_secrets(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "key": None}


class ApiKeyView(TenantView):
    """One key."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="get_api_key", tags=["API keys"], responses=openapi.answers(200, ApiKeySerializer, 404)
    )  # fmt: skip
    def get(self, request: Request, key_id: str) -> Response:
        """A key of the tenant, without its text."""
        self.query(StrictSerializer)
        return Response(ApiKeySerializer(api_keys.get(tenant=self.caller.tenant, key_id=key_id)).data)

    @extend_schema(
        operation_id="revoke_api_key", tags=["API keys"], responses=openapi.answers(200, ApiKeySerializer, 404)
    )
    def delete(self, request: Request, key_id: str) -> Response:
        """Ends a key for good, everywhere within a second; asked again, changes nothing."""
        key = api_keys.get(tenant=self.caller.tenant, key_id=key_id)
        return Response(
            ApiKeySerializer(api_keys.revoke(key=key, actor=self.caller.actor, now=timezone.now())).data
        )  # fmt: skip


class ApiKeyRotationView(TenantView):
    """A key's successor."""

    @extend_schema(
        operation_id="rotate_api_key",
        tags=["API keys"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=RotateApiKeySerializer,
        responses=openapi.answers(201, NewApiKeySerializer, 400, 404, 409),
    )
    @idempotent
    def post(self, request: Request, key_id: str) -> Response:
        """Makes a new key with the rights of this one, which goes on working for a while. Only this answer shows it.

        It takes the rights of the old key to do so. Where that one expires, the new one lives as long as it did.
        """
        wanted = self.body(RotateApiKeySerializer)
        new = api_keys.rotate(
            key=api_keys.get(tenant=self.caller.tenant, key_id=key_id),
            may_grant=self.caller.rights,
            grace=timedelta(seconds=wanted["grace_seconds"]),
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response({**ApiKeySerializer(new.row).data, "key": new.text}, status=201)

    def without_secrets(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "key": None}


class LeakedKeysView(TenantView):
    """Keys that somebody found; whoever has one may report it, and no key of his own is asked for."""

    atomic = False
    authentication_classes = []
    permission_classes = []

    @extend_schema(
        operation_id="report_leaked_key",
        tags=["API keys"],
        auth=[],
        request=LeakedKeySerializer,
        responses=openapi.public_answers(202, LeakedKeyAnswerSerializer, 400, 429),
    )
    def post(self, request: Request) -> Response:
        """Revokes a key that was found where it should not be, and tells its owner.

        The answer is the same whether there was such a key. Needs no key.
        """
        address = sender(request)
        leak_reports.admit(address, now=time.monotonic())
        text = self.body(LeakedKeySerializer)["key"]
        with scoping.operator():
            api_keys.report_leak(text=text.strip(), reporter=str(address or ""), now=timezone.now())
        return Response({"detail": THANKS}, status=202)
