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
from modelhub.models import Dataset, DatasetKind, DatasetState, UploadMode
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


class ProseText(StrictText):
    """Text of several lines."""

    default_error_messages = {"control": "Expected text without control characters other than ends of lines and tabs."}

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str):
            super().to_internal_value(data.translate({ord(blank): " " for blank in "\t\r\n"}))
        return serializers.CharField.to_internal_value(self, data) if isinstance(data, str) else self.fail("not_text")


class AboutSerializer(StrictSerializer):
    """What is said about a version of a data set; a field that is not sent stays as it is."""

    licence = StrictText(
        required=False, allow_blank=True, max_length=100, help_text="under which the data may be used: `CC-BY-4.0`"
    )
    source = StrictText(required=False, allow_blank=True, max_length=500, help_text="where the data come from")
    notes = ProseText(required=False, allow_blank=True, max_length=4000)
    retain_until = serializers.DateTimeField(
        required=False, allow_null=True, help_text="when its content is erased, by itself; null for never"
    )


class CreateDatasetSerializer(AboutSerializer):
    """What a new data set is to be."""

    name = StrictText(min_length=1, max_length=80, help_text="1 to 80 characters; no two data sets have the same name")
    kind = serializers.ChoiceField(choices=DatasetKind.choices, help_text="what the items are")


class DatasetQuery(PageQuery):
    """The filters of the list."""

    state = serializers.ChoiceField(choices=DatasetState.choices, required=False, help_text="only those in this state")
    kind = serializers.ChoiceField(choices=DatasetKind.choices, required=False, help_text="only those of this kind")
    name = serializers.CharField(required=False, help_text="the versions of this name")
    number = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="the version")


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
    """A version of a data set."""

    id = serializers.CharField(help_text="`ds_` and 26 characters; each version has one of its own")
    name = serializers.CharField(help_text="all versions have one name")
    number = serializers.IntegerField(help_text="of the version, from 1")
    latest = serializers.IntegerField(help_text="number of the newest version, whether it still exists or not")
    family = serializers.CharField(help_text="id of the first version")
    parent = serializers.SerializerMethodField(help_text="id of the version that it came from; null for a first one")
    kind = serializers.ChoiceField(choices=DatasetKind.choices)
    state = serializers.ChoiceField(
        choices=DatasetState.choices,
        help_text="created, uploading, checked (good enough to train on), rejected (see the report), sealed or erased",
    )
    items = serializers.IntegerField(help_text="pictures in it")
    size = serializers.IntegerField(help_text="bytes of all items")
    classes = serializers.SerializerMethodField(help_text="the names of its classes, sorted")
    manifest_sha256 = serializers.CharField(help_text="names the content exactly; empty where there is none")
    report = ReportSerializer(allow_null=True, help_text="what the check of the last upload found")
    progress = ProgressSerializer()
    licence = serializers.CharField(help_text="a model version that is made of it inherits licence, source and notes")
    source = serializers.CharField()
    notes = serializers.CharField()
    retain_until = serializers.DateTimeField(allow_null=True, help_text="when its content is erased, by itself")
    created_at = serializers.DateTimeField()
    sealed_at = serializers.DateTimeField(allow_null=True)
    erased_at = serializers.DateTimeField(allow_null=True, help_text="since then nothing is left but this")

    def get_parent(self, dataset: Dataset) -> str | None:
        return dataset.parent or None

    def get_classes(self, dataset: Dataset) -> list[str]:
        return sorted(dataset.report["splits"]["train"]) if dataset.manifest_sha256 and dataset.report else []


class DatasetProblemSerializer(Problem):
    """A refusal of an upload."""

    report = ReportSerializer(required=False, help_text="where the content cannot be used: what the check found")


class ContentQuery(StrictSerializer):
    """What becomes of the content that is there."""

    mode = serializers.ChoiceField(
        choices=UploadMode.choices, required=False, help_text="replace (default) what is there, or add to it"
    )


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
        wanted = {name: filters[name] for name in ("state", "kind", "name", "number") if name in filters}
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
            name=wanted.pop("name"),
            kind=wanted.pop("kind"),
            about=wanted,
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
        operation_id="change_dataset",
        summary="Change what is said about a data set: licence, source, notes, retain_until",
        tags=TAGS,
        request=AboutSerializer,
        responses=openapi.answers(200, DatasetSerializer, 400, 404, 409),
    )
    def patch(self, request: Request, dataset_id: str) -> Response:
        dataset = datasets.get(tenant=self.caller.tenant, dataset_id=dataset_id)
        about = self.body(AboutSerializer)
        dataset = datasets.change(dataset=dataset, about=about, actor=self.caller.actor, now=timezone.now())
        return Response(DatasetSerializer(dataset).data)

    @extend_schema(
        operation_id="delete_dataset",
        summary="Delete a version of a data set, and its files that no other version holds",
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
            "place of the one before, unless it was cut; with `mode=add` its pictures are added to those that are "
            "there, of two of one name the new one stays, and an upload that cannot be used changes nothing. Large "
            "files are better sent in parts. Refused: a data set that is sealed or erased, or has a newer upload "
            "under way (409), a body without Content-Length (411) or over the limit (413), another content type (415), "
            "and what would pass the plan's limit of stored bytes (429)."
        ),
        tags=TAGS,
        parameters=[ContentQuery],
        request=dict.fromkeys(ZIP_TYPES, OpenApiTypes.BINARY),
        responses=openapi.answers(200, DatasetSerializer, 404, 409, 411, 413, 415, 429, 503)
        | {(400, CONTENT_TYPE): DatasetProblemSerializer},
    )
    def put(self, request: Request, dataset_id: str) -> Response:
        tenant = self.caller.tenant
        with scoping.tenant(tenant.pk):
            datasets.get(tenant=tenant, dataset_id=dataset_id)
        mode = self.query(ContentQuery).get("mode", UploadMode.REPLACE)
        check_media_type((request.content_type or "").partition(";")[0])
        dataset = datasets.receive(
            tenant=tenant,
            dataset_id=dataset_id,
            # Django's own request: no parser of the framework may hold the body in memory.
            content=request._request,
            length=content_length(request),
            mode=mode,
            actor=self.caller.actor,
            clock=timezone.now,
        )
        return Response(DatasetSerializer(dataset).data)

    def handle_exception(self, exc: Exception) -> Response:
        return with_report(super().handle_exception(exc), exc)


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


def content_length(request: Request) -> int | None:
    """What the header Content-Length says; none if it says nothing that can be understood."""
    text = request.META.get("CONTENT_LENGTH") or ""
    return int(text) if text.isdecimal() else None


def check_media_type(media_type: str) -> str:
    """The media type of a data set's file as it is compared; raises UnsupportedMedia for one that is not taken."""
    found = media_type.strip().lower()
    if found not in ZIP_TYPES:
        raise UnsupportedMedia(f"The content type is {found or 'missing'}; expected {' or '.join(ZIP_TYPES)}.")
    return found


def with_report(response: Response, refusal: Exception) -> Response:
    """A refusal's answer; where the content cannot be used, it says what the check found."""
    if isinstance(refusal, datasets.Unusable):
        response.data["report"] = refusal.report
    return response
