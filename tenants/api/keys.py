"""API keys: list, create, read, revoke."""

from typing import Any

from django.db.models import Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import api_keys
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.models import ApiKey


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=api_keys.SCOPES))

    class Meta:
        model = ApiKey
        fields = ["id", "name", "prefix", "scopes", "created_at", "expires_at", "revoked_at"]
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
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="when it stops; never if absent. ISO 8601, UTC unless it says other"
    )


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
        rows = ApiKey.objects.for_tenant(self.caller.tenant)
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
            may_grant=self.caller.scopes,
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
