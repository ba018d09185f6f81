"""Data sets over HTTP."""

import unicodedata
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import datasets
from modelhub.models import Dataset, DatasetKind, DatasetState
from tenants import scoping
from tenants.api import openapi
from tenants.api.problems import CONTENT_TYPE
from tenants.api.serializers import PageQuery, Problem, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.errors import UnsupportedMedia

ZIP_TYPES = ("application/zip", "application/octet-stream", "application/x-zip-compressed")
TAGS = ["Data sets"]


class StrictText(serializers.CharField):
    """Text that was sent as text, without control characters."""

    default_error_messages = {
        "not_text": "Expected a string.",
        "control": "Expected text without control characters.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("not_text")
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in data):
            self.fail("control")
        return super().to_internal_value(data)


class CreateDatasetSerializer(StrictSerializer):
    """What a new data set is to be."""

    name = StrictText(min_length=1, max_length=80, help_text="1 to 80 characters; no two data sets have the same name")
    kind = serializers.ChoiceField(choices=DatasetKind.choices, help_text="what the items are")


class DatasetQuery(PageQuery):
    """The filters of the list."""

    state = serializers.ChoiceField(choices=DatasetState.choices, required=False, help_text="only those in this state")
    kind = serializers.ChoiceField(choices=DatasetKind.choices, required=False, help_text="only those of this kind")
    name = serializers.CharField(required=False, help_text="the one of this name")


class BadFileSerializer(serializers.Serializer[Any]):
    """A bad file."""

    name = serializers.CharField(help_text="its path in the zip file")
    problem = serializers.CharField(help_text="what is wrong with it, and what was expected")


class DatasetWarningSerializer(serializers.Serializer[Any]):
    """What does not forbid training and makes its result doubtful."""

    kind = serializers.CharField(help_text="`duplicates-across-splits` or `class-imbalance`")
    detail = serializers.CharField(help_text="the same in words and numbers")


class ReportSerializer(serializers.Serializer[Any]):
    """What the check of an upload found."""

    splits = serializers.DictField(
        child=serializers.DictField(child=serializers.IntegerField()),
        help_text='good pictures by split and class: {"train": {"cat": 950, "dog": 950}, "validation": {…}}',
    )
    good = serializers.IntegerField(help_text="pictures that were decoded and are stored")
    bad = serializers.IntegerField(help_text="files that were left out")
    problems = BadFileSerializer(many=True, help_text="the files that were left out, by name; the first hundred")
    problems_left_out = serializers.IntegerField(help_text="how many more there are")
    warnings = DatasetWarningSerializer(many=True)
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text="why the upload cannot be used; empty where it can"
    )


class ProgressSerializer(serializers.Serializer[Any]):
    """How far the upload under way is; empty where none is."""

    phase = serializers.ChoiceField(choices=["receiving", "checking"], required=False)
    done = serializers.IntegerField(required=False, help_text="bytes received, or files checked")
    total = serializers.IntegerField(required=False)


class DatasetSerializer(serializers.Serializer[Any]):
    """A data set."""

    id = serializers.CharField(help_text="`ds_` and 26 characters")
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=DatasetKind.choices)
    state = serializers.ChoiceField(
        choices=DatasetState.choices,
        help_text="created, uploading, checked (good enough to train on), rejected (see the report), or sealed",
    )
    items = serializers.IntegerField(help_text="pictures in it")
    size = serializers.IntegerField(help_text="bytes of all items")
    classes = serializers.SerializerMethodField(help_text="the names of its classes, sorted")
    manifest_sha256 = serializers.CharField(help_text="names the content exactly; empty where there is none")
    report = ReportSerializer(allow_null=True, help_text="what the check of the last upload found")
    progress = ProgressSerializer()
    created_at = serializers.DateTimeField()
    sealed_at = serializers.DateTimeField(allow_null=True)

    def get_classes(self, dataset: Dataset) -> list[str]:
        return sorted(dataset.report["splits"]["train"]) if dataset.manifest_sha256 and dataset.report else []


class DatasetProblemSerializer(Problem):
    """A refusal of an upload."""

    report = ReportSerializer(required=False, help_text="where the content cannot be used: what the check found")


class DatasetsView(TenantView):
    """The data sets of the tenant."""

    @extend_schema(
        operation_id="list_datasets",
        summary="List data sets, newest first",
        tags=TAGS,
        parameters=[DatasetQuery],
        responses=openapi.answers(200, openapi.page_of(DatasetSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        filters = self.query(DatasetQuery)
        wanted = {name: filters[name] for name in ("state", "kind", "name") if name in filters}
        return self.page(Dataset.objects.for_tenant(self.caller.tenant).filter(**wanted), DatasetSerializer)

    @extend_schema(
        operation_id="create_dataset",
        summary="Create an empty data set",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=CreateDatasetSerializer,
        responses=openapi.answers(201, DatasetSerializer, 400, 409),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        wanted = self.body(CreateDatasetSerializer)
        dataset = datasets.create(
            tenant=self.caller.tenant,
            name=wanted["name"],
            kind=wanted["kind"],
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(DatasetSerializer(dataset).data, status=status.HTTP_201_CREATED)


class DatasetView(TenantView):
    """One data set."""

    @extend_schema(
        operation_id="get_dataset",
        summary="Get a data set, its report and the progress of its upload",
        tags=TAGS,
        responses=openapi.answers(200, DatasetSerializer, 404),
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        return Response(DatasetSerializer(datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)).data)

    @extend_schema(
        operation_id="delete_dataset",
        summary="Delete a data set and its files",
        tags=TAGS,
        responses=openapi.answers(204, None, 404, 409),
    )
    def delete(self, request: Request, dataset_id: str) -> Response:
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        datasets.delete(dataset=dataset, actor=self.caller.actor, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class DatasetContentView(TenantView):
    """The content of a data set: a zip file, taken as it streams in."""

    atomic: ClassVar[bool] = False

    @extend_schema(
        operation_id="upload_dataset",
        summary="Upload the data set's pictures as one zip file",
        description=(
            "The zip file holds `train/<class>/*` and `validation/<class>/*` (one folder may wrap both): JPEG, PNG or "
            "WebP. Every picture is decoded before the answer comes; meanwhile a GET of the data set shows the "
            "progress. Bad files are named in the report and left out if the rest suffice: at least two classes, the "
            "same in both splits, each with two good pictures in train and one in validation. A new upload takes the "
            "place of the one before, unless it was cut. Refused: a data set that is sealed, or has a newer upload "
            "under way (409), a body without Content-Length (411) or over the limit (413), another content type (415), "
            "and what would pass the plan's limit of stored bytes (429)."
        ),
        tags=TAGS,
        request=dict.fromkeys(ZIP_TYPES, OpenApiTypes.BINARY),
        responses=openapi.answers(200, DatasetSerializer, 404, 409, 411, 413, 415, 429, 503)
        | {(400, CONTENT_TYPE): DatasetProblemSerializer},
    )
    def put(self, request: Request, dataset_id: str) -> Response:
        tenant = self.caller.tenant
        with scoping.tenant(tenant.pk):
            datasets.get(tenant=tenant, dataset_id=dataset_id)
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        if media_type not in ZIP_TYPES:
            raise UnsupportedMedia(f"The content type is {media_type or 'missing'}; expected {' or '.join(ZIP_TYPES)}.")
        dataset = datasets.receive(
            tenant=tenant,
            dataset_id=dataset_id,
            # Django's own request: no parser of the framework may hold the body in memory.
            content=request._request,
            length=_content_length(request),
            actor=self.caller.actor,
            clock=timezone.now,
        )
        return Response(DatasetSerializer(dataset).data)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(exc, datasets.Unusable):
            response.data["report"] = exc.report
        return response


class DatasetSealView(TenantView):
    """Sealing a data set."""

    @extend_schema(
        operation_id="seal_dataset",
        summary="Seal a checked data set: from now on it never changes",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=None,
        responses=openapi.answers(200, DatasetSerializer, 400, 404, 409),
    )
    @idempotent
    def post(self, request: Request, dataset_id: str) -> Response:
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        dataset = datasets.seal(dataset=dataset, actor=self.caller.actor, now=timezone.now())
        return Response(DatasetSerializer(dataset).data)


def _content_length(request: Request) -> int | None:
    text = request.META.get("CONTENT_LENGTH") or ""
    return int(text) if text.isdecimal() else None
