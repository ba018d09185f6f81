"""What the OpenAPI document says the same way at every address: refusals, pages of lists, the Idempotency-Key."""

import functools
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers

from tenants.api.problems import CONTENT_TYPE
from tenants.api.serializers import Problem

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Drawn by the client for each request: a retry with the same key gets the first answer, for a day.",
)

Serializer = type[serializers.BaseSerializer[Any]] | serializers.BaseSerializer[Any]


def answers(status: int, body: Serializer | None, *refusals: int) -> dict[Any, Any]:
    """The `responses` of an operation: what it answers, and the refusals besides 401 and 403."""
    return public_answers(status, body, 401, 403, *refusals)


def file_answers(media_type: str, *refusals: int) -> dict[Any, Any]:
    """The `responses` of an operation that answers with a file of this type."""
    return {(200, media_type): OpenApiTypes.BINARY, **{(code, CONTENT_TYPE): Problem for code in (401, 403, *refusals)}}


def public_answers(status: int, body: Serializer | None, *refusals: int) -> dict[Any, Any]:
    """The `responses` of an operation that needs no key."""
    return {status: body, **{(code, CONTENT_TYPE): Problem for code in refusals}}


@functools.cache
def page_of(row: type[serializers.BaseSerializer[Any]]) -> serializers.Serializer[Any]:
    """A page of a list of these rows."""
    return inline_serializer(
        f"{row.__name__.removesuffix('Serializer')}Page",
        {
            "next": serializers.URLField(allow_null=True, help_text="the page after this one"),
            "previous": serializers.URLField(allow_null=True, help_text="the page before this one"),
            "results": row(many=True),
        },
    )


def add_summaries(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular: the first sentence of a description is its summary."""
    for operations in result["paths"].values():
        for operation in operations.values():
            first, _, _ = operation.get("description", "").replace("\n", " ").partition(". ")
            operation.setdefault("summary", first.rstrip("."))
    return result
