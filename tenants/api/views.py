"""The base of every view of the control API: one transaction in its caller's scope, and answers that retry well."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

from django.db import models
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from tenants import idempotency, scoping
from tenants.accounts import Caller
from tenants.api.pagination import NewestFirst
from tenants.api.parsers import StrictJSONParser
from tenants.api.serializers import StrictSerializer
from tenants.errors import FieldError, Invalid, LengthRequired, NotFound
from tenants.limits import quota_status

UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


class TenantView(APIView):
    """A view of one tenant's things: parse, call one verb, render.

    `scopes` names, for each method, the scopes of which one is needed. A view that is `atomic` runs in one transaction
    that sees its tenant's rows only; one that is not opens `scoping.tenant(self.caller.tenant.pk)` where it needs it.
    """

    scopes: ClassVar[dict[str, tuple[str, ...]]] = {}
    atomic: ClassVar[bool] = True
    parser_classes = [StrictJSONParser]
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
        _refuse_what_no_row_holds(request, kwargs)
        if self.atomic:
            scoping.switch_to(self.caller.tenant.pk)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        if self.atomic and answer.status_code < 400 and (warning := quota_status.warning(tenant=self.caller.tenant)):
            answer["X-Quota-Warning"] = warning
        return answer

    def body(self, serializer: type[StrictSerializer], **context: Any) -> dict[str, Any]:
        """The request's body, as the serializer reads it."""
        reader = serializer(data=self.request.data, context=context)
        reader.is_valid(raise_exception=True)
        return cast(dict[str, Any], reader.validated_data)

    def query(self, serializer: type[StrictSerializer], **context: Any) -> dict[str, Any]:
        """The request's query parameters, as the serializer reads them; each may be there once."""
        given = self.request.query_params
        repeated = tuple(
            FieldError(name, "Expected once; it is there several times.")
            for name, values in given.lists()
            if len(values) > 1
        )
        if repeated:
            raise Invalid("; ".join(f"{e.field}: {e.message}" for e in repeated), errors=repeated)
        reader = serializer(data=given.dict(), context=context)
        reader.is_valid(raise_exception=True)
        return cast(dict[str, Any], reader.validated_data)

    def filtered(
        self, rows: models.QuerySet[Any], serializer: type[StrictSerializer], **columns: str
    ) -> models.QuerySet[Any]:
        """The rows of which each column has what the query parameter of its name asks for."""
        query = self.query(serializer)
        return rows.filter(**{column: query[name] for name, column in columns.items() if name in query})

    def page(self, rows: models.QuerySet[Any], serializer: type[BaseSerializer[Any]], **context: Any) -> Response:
        """One page of a list."""
        paginator = self.pagination_class()
        found = paginator.paginate_queryset(rows, self.request, view=self)
        return paginator.get_paginated_response(serializer(found, many=True, context=context).data)


def _refuse_what_no_row_holds(request: Request, path: dict[str, Any]) -> None:
    """Characters that PostgreSQL does not store, and a body whose length is not told: neither reaches a verb."""
    if any(UNSTORABLE.search(str(part)) for part in path.values()):
        raise NotFound("There is nothing at this address.")
    for name, values in request.query_params.lists():
        if UNSTORABLE.search(name) or any(UNSTORABLE.search(value) for value in values):
            raise Invalid(f"{name!r}: a character of the query is none that text has (NUL or half a surrogate pair).")
    if "Transfer-Encoding" in request.headers and not request.headers.get("Content-Length"):
        raise LengthRequired("Send the body's length in Content-Length; a chunked body is not taken here.")


View = TypeVar("View", bound=TenantView)
Arguments = ParamSpec("Arguments")
Method = Callable[Concatenate[View, Request, Arguments], Response]


def idempotent(method: Method[View, Arguments]) -> Method[View, Arguments]:
    """For a POST: a retry with the same Idempotency-Key gets the first answer again.

    The view's `without_secrets(body)` says what of an answer may be kept. The view must be `atomic`: the answer is
    kept by the transaction that does the work, and a refusal rolls both back, so that a retry is tried anew.
    """

    @wraps(method)
    def answer(self: View, request: Request, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return method(self, request, *args, **kwargs)
        fingerprint = idempotency.fingerprint(request.method or "", request.get_full_path(), request.data)
        row = idempotency.begin(caller=self.caller, key=key, fingerprint=fingerprint, now=timezone.now())
        if row.status is not None:
            return Response(row.body, status=row.status, headers={"Idempotent-Replayed": "true"})
        response = method(self, request, *args, **kwargs)
        without_secrets: Callable[[Any], Any] = getattr(self, "without_secrets", lambda body: body)
        idempotency.keep(row, status=response.status_code, body=without_secrets(response.data))
        return response

    return answer
