"""A look into a data set over HTTP: first rows, thumbnails, waveforms."""

from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import datasets
from modelhub.datasets import previews, splits
from modelhub.datasets.previews import Picture
from modelhub.models import Dataset, DatasetKind
from tenants import scoping
from tenants.api import openapi
from tenants.api.serializers import StrictSerializer
from tenants.api.views import TenantView

TAGS = ["Data sets"]
DEFAULT_ROWS, MAX_ROWS = 10, 100
PICTURES = {DatasetKind.IMAGE_CLASSIFICATION.value: "dataset-thumbnail", DatasetKind.SPEECH.value: "dataset-waveform"}
# What was made of a stranger's file is shown by itself, and may do nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, max-age=86400, immutable",
}


class PreviewQuery(StrictSerializer):
    """How much is shown."""

    split = serializers.ChoiceField(choices=splits.SPLITS, required=False, help_text="only this split")
    limit = serializers.IntegerField(
        default=DEFAULT_ROWS, min_value=1, max_value=MAX_ROWS, help_text="rows of each split at most"
    )


class PreviewColumnSerializer(serializers.Serializer[Any]):
    """A column of a table."""

    name = serializers.CharField()
    type = serializers.CharField(help_text="number, integer, category, boolean or text")


class PreviewRowSerializer(serializers.Serializer[Any]):
    """A row or file of a data set; which fields there are is a question of the kind."""

    name = serializers.CharField(help_text="its path in the zip file, or the file and line of a row: `train.csv:17`")
    group = serializers.CharField(required=False, help_text="the speaker, or another group")
    sha256 = serializers.CharField(required=False, help_text="of a picture or recording: its content")
    target = serializers.CharField(required=False, help_text="class, transcript, or translation")
    facts = serializers.DictField(required=False, help_text="of a picture or recording: what it is like")
    picture = serializers.CharField(
        required=False, help_text="the address of its thumbnail or waveform, to be asked for with the same key"
    )
    text = serializers.CharField(required=False)
    label = serializers.CharField(required=False)  # type: ignore[assignment]
    source = serializers.CharField(required=False)  # type: ignore[assignment]
    values = serializers.DictField(required=False, help_text="of a table: its values by column; null is missing")


class PreviewSerializer(serializers.Serializer[Any]):
    """The first rows of a data set."""

    kind = serializers.ChoiceField(choices=DatasetKind.choices)
    columns = PreviewColumnSerializer(many=True, help_text="of a table")
    splits = serializers.DictField(child=PreviewRowSerializer(many=True), help_text="the first rows of each split")


class DatasetPreviewView(TenantView):
    """The first rows of a data set."""

    @extend_schema(
        operation_id="preview_dataset",
        summary="Look at the first rows of a data set",
        tags=TAGS,
        parameters=[PreviewQuery],
        responses=openapi.answers(200, PreviewSerializer, 400, 404, 409),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        query = self.query(PreviewQuery)
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        document = previews.preview(dataset=dataset, limit=query["limit"], split=query.get("split"))
        if route := PICTURES.get(dataset.kind):
            for row in (row for rows in document["splits"].values() for row in rows):
                row["picture"] = reverse(route, args=[dataset.pk, row["sha256"]])
        return Response(document)


class PictureView(TenantView):
    """A small picture of an item. It is drawn outside of a transaction."""

    atomic: ClassVar[bool] = False

    def drawn(self, dataset_id: str) -> Dataset:
        """The data set of the caller's tenant."""
        with scoping.tenant(self.caller.tenant.pk):
            return datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)


class DatasetThumbnailView(PictureView):
    """A small picture of a picture."""

    @extend_schema(
        operation_id="get_dataset_thumbnail",
        summary="Get a small PNG of a picture of a data set",
        tags=TAGS,
        responses=openapi.file_answers("image/png", 404, 409),
    )
    def get(self, request: Request, dataset_id: str, sha256: str) -> HttpResponseBase:
        return _answer(previews.thumbnail(dataset=self.drawn(dataset_id), sha256=sha256))


class DatasetWaveformView(PictureView):
    """A picture of a sound."""

    @extend_schema(
        operation_id="get_dataset_waveform",
        summary="Get the waveform of a recording of a data set as SVG",
        tags=TAGS,
        responses=openapi.file_answers("image/svg+xml", 404, 409),
    )
    def get(self, request: Request, dataset_id: str, sha256: str) -> HttpResponseBase:
        return _answer(previews.waveform(dataset=self.drawn(dataset_id), sha256=sha256))


def _answer(picture: Picture) -> HttpResponse:
    return HttpResponse(picture.data, content_type=picture.content_type, headers=HEADERS)
