"""Uploads of data sets in parts over HTTP."""

import base64
import binascii
import re
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import datasets
from modelhub.api.datasets import (
    TAGS,
    DatasetProblemSerializer,
    DatasetSerializer,
    checked_media_type,
    content_length,
    with_report,
)
from modelhub.datasets import parts
from modelhub.models import DatasetUpload, DatasetUploadPart, UploadMode
from tenants.api import openapi
from tenants.api.problems import CONTENT_TYPE
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.errors import FieldError, Invalid

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
# RFC 9530: a dictionary of structured fields, whose values are byte sequences.
CONTENT_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):\s*(?:,|;|$)")
SUMS = [
    OpenApiParameter("Content-Digest", str, OpenApiParameter.HEADER, description="`sha-256=:…:` of the part, RFC 9530"),
    OpenApiParameter("X-Checksum-Sha256", str, OpenApiParameter.HEADER, description="the same as 64 hex digits"),
]


class NewUploadSerializer(StrictSerializer):
    """The file that is going to be sent."""

    length = serializers.IntegerField(min_value=1, max_value=2**53, help_text="bytes of the whole file")
    media_type = serializers.CharField(max_length=80, help_text="of the whole file, as the kind takes it")
    sha256 = serializers.RegexField(
        rf"\A{SHA256.pattern}\Z", required=False, help_text="of the whole file, 64 hex digits; checked if it is sent"
    )
    mode = serializers.ChoiceField(
        choices=UploadMode.choices, required=False, help_text="replace (default) what is there, or add to it"
    )


class UploadPartSerializer(serializers.ModelSerializer[DatasetUploadPart]):
    """A part that has come."""

    class Meta:
        model = DatasetUploadPart
        fields = ["number", "size", "sha256", "received_at"]
        read_only_fields = fields


class UploadSerializer(serializers.ModelSerializer[DatasetUpload]):
    """An upload in parts."""

    dataset = serializers.CharField(source="dataset_id", help_text="id of the data set")

    class Meta:
        model = DatasetUpload
        fields = [
            "id", "dataset", "state", "mode", "length", "media_type", "sha256", "created_at", "expires_at", "ended_at",
        ]  # fmt: skip
        read_only_fields = fields


class UploadWithPartsSerializer(UploadSerializer):
    """An upload in parts, and which of them are there."""

    parts = serializers.SerializerMethodField(help_text="the parts that are there, by number")
    received = serializers.SerializerMethodField(help_text="bytes of these parts")

    class Meta(UploadSerializer.Meta):
        fields = [*UploadSerializer.Meta.fields, "received", "parts"]
        read_only_fields = fields

    def get_received(self, upload: DatasetUpload) -> int:
        return parts.received(upload=upload)

    def get_parts(self, upload: DatasetUpload) -> list[dict[str, Any]]:
        return list(UploadPartSerializer(parts.there(upload=upload), many=True).data)


class DatasetUploadsView(TenantView):
    """The uploads in parts to a data set."""

    @extend_schema(
        operation_id="list_dataset_uploads",
        tags=TAGS,
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(UploadSerializer), 400, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        """The uploads in parts to a data set, newest first, those that have ended too."""
        self.query(PageQuery)
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        return self.page(parts.of_dataset(dataset=dataset), UploadSerializer)

    @extend_schema(
        operation_id="begin_dataset_upload",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=NewUploadSerializer,
        responses=openapi.answers(201, UploadWithPartsSerializer, 400, 404, 409, 413, 415, 429),
    )
    @idempotent
    def post(self, request: Request, dataset_id: str) -> Response:
        """Begin an upload in parts. Send the parts in any order, several at a time if you like, then complete it."""
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        wanted = self.body(NewUploadSerializer)
        upload = parts.begin(
            dataset=dataset,
            length=wanted["length"],
            media_type=checked_media_type(wanted["media_type"], dataset=dataset),
            sha256=wanted.get("sha256", "").lower(),
            mode=wanted.get("mode", UploadMode.REPLACE),
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(UploadWithPartsSerializer(upload).data, status=status.HTTP_201_CREATED)


class DatasetUploadView(TenantView):
    """One upload in parts."""

    @extend_schema(
        operation_id="get_dataset_upload",
        tags=TAGS,
        responses=openapi.answers(200, UploadWithPartsSerializer, 400, 404),
    )
    def get(self, request: Request, dataset_id: str, upload_id: str) -> Response:
        """An upload in parts, and which of them are there: what is missing is to be sent."""
        self.query(StrictSerializer)
        upload = parts.get(tenant=self.caller.tenant, dataset_id=dataset_id, upload_id=upload_id)
        return Response(UploadWithPartsSerializer(upload).data)

    @extend_schema(operation_id="abort_dataset_upload", tags=TAGS, responses=openapi.answers(204, None, 404, 409))
    def delete(self, request: Request, dataset_id: str, upload_id: str) -> Response:
        """Abort an upload in parts: its parts are removed."""
        upload = parts.get(tenant=self.caller.tenant, dataset_id=dataset_id, upload_id=upload_id)
        parts.abort(upload=upload, actor=self.caller.actor, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class DatasetUploadPartView(TenantView):
    """One part, taken as it streams in."""

    atomic: ClassVar[bool] = False

    @extend_schema(
        operation_id="upload_dataset_part",
        tags=TAGS,
        parameters=SUMS,
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=openapi.answers(200, UploadPartSerializer, 400, 404, 409, 411, 413, 503),
    )
    def put(self, request: Request, dataset_id: str, upload_id: str, number: int) -> Response:
        """Send a part: its bytes as they are. The same again changes nothing, others under its number replace it."""
        part = parts.receive(
            tenant=self.caller.tenant,
            dataset_id=dataset_id,
            upload_id=upload_id,
            number=number,
            content=request._request,
            length=content_length(request),
            sha256=_announced_sha256(request),
            clock=timezone.now,
        )
        return Response(UploadPartSerializer(part).data)


class DatasetUploadCompleteView(TenantView):
    """Completing an upload in parts."""

    atomic: ClassVar[bool] = False

    @extend_schema(
        operation_id="complete_dataset_upload",
        tags=TAGS,
        request=None,
        responses=openapi.answers(200, DatasetSerializer, 404, 409, 429, 503)
        | {(400, CONTENT_TYPE): DatasetProblemSerializer},
    )
    def post(self, request: Request, dataset_id: str, upload_id: str) -> Response:
        """Complete an upload: its parts are put together and checked as a file that is sent in one piece.

        The answer comes when the check has ended; meanwhile a GET of the data set shows the progress. Completing it
        once more gives the data set again.
        """
        dataset = parts.complete(
            tenant=self.caller.tenant,
            dataset_id=dataset_id,
            upload_id=upload_id,
            actor=self.caller.actor,
            clock=timezone.now,
        )
        return Response(DatasetSerializer(dataset).data)

    def handle_exception(self, exc: Exception) -> Response:
        return with_report(super().handle_exception(exc), exc)


def _announced_sha256(request: Request) -> str:
    """What the headers say that the body's sha256 is, as hex digits; empty where they say nothing."""
    found = {_from_hex(request.headers.get("X-Checksum-Sha256")), _from_digest(request.headers.get("Content-Digest"))}
    found.discard("")
    if len(found) > 1:
        raise _wrong("Content-Digest", "Content-Digest and X-Checksum-Sha256 say different things.")
    return found.pop() if found else ""


def _from_hex(text: str | None) -> str:
    if text is not None and not SHA256.fullmatch(text):
        raise _wrong("X-Checksum-Sha256", f"X-Checksum-Sha256 is {text[:80]!r}; expected 64 hex digits.")
    return (text or "").lower()


def _from_digest(text: str | None) -> str:
    if text is None:
        return ""
    match = CONTENT_DIGEST.search(text)
    try:
        digest = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise _wrong(
            "Content-Digest", f"Content-Digest is {text[:80]!r}; expected sha-256=:…: with 32 bytes in base64."
        )
    return digest.hex()


def _wrong(field: str, detail: str) -> Invalid:
    return Invalid(detail, errors=(FieldError(field, "Expected the sha256 of the body."),))
