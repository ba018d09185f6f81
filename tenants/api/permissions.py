"""What a caller may do: each view names, for each method, the scopes of which one is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tenants.accounts import Caller
from tenants.errors import Denied, Unauthenticated

if TYPE_CHECKING:
    from rest_framework.views import APIView

DEFAULT_SCOPES = {"GET": ("read",), "OPTIONS": ()}


class HasScope(BasePermission):
    """The caller has one of the scopes that the view names for the method; by default `read` to read, else `manage`."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller: object = request.user
        if not isinstance(caller, Caller):
            raise Unauthenticated(
                "Send an API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY' (members may log in instead)."
            )
        method = "GET" if request.method in (None, "HEAD") else request.method
        named: dict[str, tuple[str, ...]] = getattr(view, "scopes", {})
        needed = named.get(method, DEFAULT_SCOPES.get(method, ("manage",)))
        if needed and not caller.scopes & set(needed):
            raise Denied(
                f"{method} here needs the scope {' or '.join(needed)}; "
                f"{caller.actor} has {', '.join(sorted(caller.scopes)) or 'none'}."
            )
        return True
