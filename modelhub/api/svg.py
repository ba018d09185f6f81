"""How a drawing is answered."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes

from tenants.api import openapi

CONTENT_TYPE = "image/svg+xml"


def answers(*refusals: int) -> dict[Any, Any]:
    """The `responses` of an operation that answers with a drawing, and the refusals besides 401 and 403."""
    refused = openapi.answers(200, None, *refusals)
    del refused[200]
    return {(200, CONTENT_TYPE): OpenApiTypes.STR, **refused}


def response(drawing: str) -> HttpResponse:
    """The drawing as a file of its own, in which no script runs, whatever it says."""
    return HttpResponse(
        drawing,
        content_type=f"{CONTENT_TYPE}; charset=utf-8",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )
