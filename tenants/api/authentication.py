"""Who sends a request to the control API: a key, or a member's session."""

import base64
import binascii

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from tenants import accounts, scoping
from tenants.accounts import Caller
from tenants.errors import Unauthenticated
from tenants.keys import addresses, api_keys
from tenants.keys.addresses import Address
from tenants.models import Membership


def presented_key(authorization: str, api_key_header: str) -> str | None:
    """The key in `Authorization: Bearer`, `Authorization: Basic` (as the password) or `X-API-Key`; none if absent."""
    if api_key_header:
        return api_key_header.strip()
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return None


def sender(request: Request) -> Address | None:
    """The address that a request comes from, as far as it can be said."""
    return addresses.sender(request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", ""))


class KeyAuthentication(BaseAuthentication):
    """An API key."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        text = presented_key(request.headers.get("Authorization", ""), request.headers.get("X-API-Key", ""))
        if text is None:
            return None
        with scoping.operator():
            key = api_keys.find(text=text, sender=sender(request), now=timezone.now())
        return accounts.caller_of_key(key), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class MemberAuthentication(SessionAuthentication):
    """A member who is logged in; `X-Tenant` names the tenant where the member has several."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user: User = found[0]
        with scoping.operator():
            memberships = Membership.objects.select_related("tenant", "tenant__plan", "user").filter(
                user=user, tenant__active=True
            )
            wanted = request.headers.get("X-Tenant", "")
            if wanted:
                memberships = memberships.filter(tenant__name=wanted)
            rows = list(memberships[:2])
        if len(rows) != 1:
            raise Unauthenticated(
                "You are a member of several tenants: name one in the header X-Tenant."
                if rows
                else "You are logged in, but you are no member of this tenant."
            )
        return accounts.caller_of_member(rows[0]), None


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document names the key."""

    target_class = KeyAuthentication
    name = "ApiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer aiaas_…`"}


class MemberScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document names a member's session."""

    target_class = MemberAuthentication
    name = "Session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
