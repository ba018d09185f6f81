"""Versions of data sets over HTTP, and each of them back as an archive."""

from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import datasets
from modelhub.api.datasets import DATASET_PAGE, TAGS, AboutSerializer, DatasetSerializer
from modelhub.datasets import exports
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent

ZIP = "application/zip"
MAX_REMOVED = 10_000


class DeriveSerializer(AboutSerializer):
    """What the next version is to be; what is not sent is inherited."""

    remove = serializers.ListField(
        child=serializers.CharField(max_length=500, trim_whitespace=False),
        required=False,
        max_length=MAX_REMOVED,
        help_text="names of items that it shall not have, as the export names them",
    )


class DatasetVersionsView(TenantView):
    """The versions of a data set."""

    @extend_schema(
        operation_id="list_dataset_versions",
        tags=TAGS,
        parameters=[PageQuery],
        responses=openapi.answers(200, DATASET_PAGE, 400, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        """All versions of the data set that one of them belongs to, newest first."""
        self.query(PageQuery)
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        return self.page(datasets.of_family(dataset=dataset), DatasetSerializer)

    @extend_schema(
        operation_id="derive_dataset_version",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=DeriveSerializer,
        responses=openapi.answers(201, DatasetSerializer, 400, 404, 409),
    )
    @idempotent
    def post(self, request: Request, dataset_id: str) -> Response:
        """Make the next version out of a sealed one. It holds the same files, can be added to, and is then sealed."""
        parent = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        about: dict[str, Any] = self.body(DeriveSerializer)
        dataset = datasets.derive(
            parent=parent,
            remove=about.pop("remove", ()),
            about=about,
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(DatasetSerializer(dataset).data, status=status.HTTP_201_CREATED)


class DatasetExportView(TenantView):
    """A data set as an archive."""

    @extend_schema(
        operation_id="export_dataset",
        tags=TAGS,
        responses=openapi.file_answers(ZIP, 400, 404, 409),
    )
    def get(self, request: Request, dataset_id: str) -> StreamingHttpResponse:
        """A zip file of the data set's items, written while it is sent. Uploaded again, it gives the same manifest."""
        self.query(StrictSerializer)
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        content = exports.export(dataset=dataset, actor=self.caller.actor)
        name = f"{dataset.pk}.zip"
        return StreamingHttpResponse(
            content, content_type=ZIP, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )
