"""The base of every view of the control API: one transaction in its caller's scope, and answers that retry well."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

from django.db import models
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from tenants import idempotency, scoping
from tenants.accounts import Caller
from tenants.api.pagination import NewestFirst


class TenantView(APIView):
    """A view of one tenant's things: parse, call one verb, render.

    `scopes` names, for each method, the scopes of which one is needed. A view that is `atomic` runs in one transaction
    that sees its tenant's rows only; one that is not opens `scoping.tenant(self.caller.tenant.pk)` where it needs it.
    """

    scopes: ClassVar[dict[str, tuple[str, ...]]] = {}
    atomic: ClassVar[bool] = True
    pagination_class = NewestFirst

    @property
    def caller(self) -> Caller:
        return cast(Caller, self.request.user)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not self.atomic:
            return super().dispatch(request, *args, **kwargs)
        with scoping.nobody():
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.atomic:
            scoping.switch_to(self.caller.tenant.pk)

    def page(self, rows: models.QuerySet[Any], serializer: type[BaseSerializer[Any]], **context: Any) -> Response:
        """One page of a list."""
        paginator = self.pagination_class()
        found = paginator.paginate_queryset(rows, self.request, view=self)
        return paginator.get_paginated_response(serializer(found, many=True, context=context).data)


View = TypeVar("View", bound=TenantView)
Arguments = ParamSpec("Arguments")
Method = Callable[Concatenate[View, Request, Arguments], Response]


def idempotent(method: Method[View, Arguments]) -> Method[View, Arguments]:
    """For a POST: a retry with the same Idempotency-Key gets the first answer again.

    The view's `without_secrets(body)` says what of an answer may be kept.
    """

    @wraps(method)
    def answer(self: View, request: Request, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return method(self, request, *args, **kwargs)
        fingerprint = idempotency.fingerprint(request.method or "", request.path, request.data)
        row = idempotency.begin(caller=self.caller, key=key, fingerprint=fingerprint)
        if row.status is not None:
            return Response(row.body, status=row.status, headers={"Idempotent-Replayed": "true"})
        response = method(self, request, *args, **kwargs)
        without_secrets: Callable[[Any], Any] = getattr(self, "without_secrets", lambda body: body)
        idempotency.keep(row, status=response.status_code, body=without_secrets(response.data))
        return response

    return answer
