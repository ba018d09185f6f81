"""Who is asking: `me`."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.accounts import Caller
from tenants.api import openapi
from tenants.api.serializers import StrictSerializer
from tenants.api.views import TenantView
from tenants.keys import api_keys
from tenants.models import Role


class TenantSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    plan = serializers.CharField(source="plan_id", help_text="code of the plan: limits and prices")


class CallerSerializer(serializers.Serializer[Caller]):
    kind = serializers.CharField(help_text="`key` or `member`")
    id = serializers.CharField()
    name = serializers.CharField(help_text="name of the key, or what the member logs in with")
    role = serializers.ChoiceField(choices=Role.choices, allow_null=True, help_text="of a member; null for a key")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=api_keys.SCOPES))


class MeSerializer(serializers.Serializer[Any]):
    tenant = TenantSerializer()
    caller = CallerSerializer()


class MeView(TenantView):
    """Who is asking, and for whom."""

    scopes = {"GET": ()}

    @extend_schema(operation_id="me", tags=["Account"], responses=openapi.answers(200, MeSerializer))
    def get(self, request: Request) -> Response:
        """The tenant and the caller that this key or session stands for; any scope will do."""
        self.query(StrictSerializer)
        caller = self.caller
        who = {
            "kind": "key" if caller.key else "member",
            "id": caller.id,
            "name": caller.name,
            "role": caller.role or None,
            "scopes": [scope for scope in api_keys.SCOPES if scope in caller.scopes],
        }
        return Response(MeSerializer({"tenant": caller.tenant, "caller": who}).data)
