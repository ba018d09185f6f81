"""Errors as problem details (RFC 9457)."""

import logging
import math
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from tenants import errors
from tenants.errors import FieldError, Refusal

CONTENT_TYPE = "application/problem+json"
logger = logging.getLogger(__name__)


def body(refusal: Refusal) -> dict[str, Any]:
    """The problem document of a refusal."""
    problem: dict[str, Any] = {
        "type": f"urn:aiaas:problem:{refusal.slug}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
    }
    if refusal.errors:
        problem["errors"] = [{"field": e.field, "message": e.message} for e in refusal.errors]
    return problem


def headers(refusal: Refusal) -> dict[str, str]:
    """The headers that go with a refusal."""
    found: dict[str, str] = {}
    if refusal.retry_after is not None:
        found["Retry-After"] = str(max(1, math.ceil(refusal.retry_after)))
    if refusal.status == 401:
        found["WWW-Authenticate"] = 'Bearer realm="api"'
    if isinstance(refusal, errors.MethodNotAllowed) and refusal.allowed:
        found["Allow"] = ", ".join(refusal.allowed)
    return found


class ProblemRenderer(JSONRenderer):
    """JSON under the media type of problem details."""

    media_type = CONTENT_TYPE
    charset = None


def handle(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's exception handler; what is not a refusal is a fault of ours and goes on as such."""
    refusal = as_refusal(exception)
    if refusal is None:
        return None
    # A view that is not atomic has rolled back what it had begun; a transaction around it is its caller's.
    if getattr(context["view"], "atomic", True) and transaction.get_connection().in_atomic_block:
        transaction.set_rollback(True)
    request = context.get("request")
    if request is not None:
        request.accepted_renderer = ProblemRenderer()
        request.accepted_media_type = CONTENT_TYPE
    allow = {"Allow": ", ".join(context["view"].allowed_methods)} if refusal.status == 405 else {}
    return Response(body(refusal), status=refusal.status, headers=headers(refusal) | allow, content_type=CONTENT_TYPE)


def as_refusal(exception: Exception) -> Refusal | None:
    """The refusal that an exception of ours, of Django or of Django REST framework means."""
    match exception:
        case Refusal():
            return exception
        case exceptions.ValidationError():
            found = tuple(_field_errors(exception.detail))
            return errors.Invalid(
                "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in found), errors=found
            )
        case Http404() | exceptions.NotFound():
            return errors.NotFound(str(getattr(exception, "detail", "")) or "There is nothing at this address.")
        case PermissionDenied() | exceptions.PermissionDenied():
            return errors.Denied(str(exception) or "Not allowed.")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return errors.Unauthenticated(str(exception.detail))
        case exceptions.MethodNotAllowed():
            return errors.MethodNotAllowed(str(exception.detail))
        case exceptions.UnsupportedMediaType():
            return errors.UnsupportedMedia(f"{exception.detail} Expected application/json.")
        case exceptions.APIException():
            refusal = errors.Invalid(str(exception.detail))
            refusal.status = exception.status_code  # type: ignore[misc]  # of this one alone
            return refusal
    return None


def _field_errors(detail: Any, path: str = "") -> list[FieldError]:
    if isinstance(detail, dict):
        return [
            e
            for key, value in detail.items()
            for e in _field_errors(value, path if key == "non_field_errors" else f"{path}.{key}".lstrip("."))
        ]
    if isinstance(detail, list):
        return [e for value in detail for e in _field_errors(value, path)]
    return [FieldError(path, str(detail))]


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """What a path that does not exist answers."""
    refusal = errors.NotFound(f"There is nothing at {request.path}.")
    return JsonResponse(body(refusal), status=404, content_type=CONTENT_TYPE)


def server_error(request: HttpRequest) -> JsonResponse:
    """What a fault of ours answers: nothing of its inside."""
    problem = {
        "type": "urn:aiaas:problem:fault",
        "title": "A fault on our side",
        "status": 500,
        "detail": "The request failed through no fault of yours; it was logged.",
    }
    return JsonResponse(problem, status=500, content_type=CONTENT_TYPE)
