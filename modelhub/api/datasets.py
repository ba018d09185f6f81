"""Data sets over HTTP."""

import unicodedata
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import datasets
from modelhub.api.dataset_reports import ReportSerializer
from modelhub.datasets import columns, kinds, splits
from modelhub.models import Dataset, DatasetKind, DatasetState, UploadMode
from tenants import scoping
from tenants.api import openapi
from tenants.api.problems import CONTENT_TYPE
from tenants.api.serializers import PageQuery, Problem, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.errors import UnsupportedMedia

TAGS = ["Data sets"]
CONTENT_TYPES = sorted({media_type for kind in kinds.KINDS.values() for media_type in kind.content_types})


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


class SplitSerializer(StrictSerializer):
    """How the items are divided into those that are trained on and those that validate."""

    by = serializers.ChoiceField(
        choices=splits.WAYS,
        required=False,
        help_text="given: as folders, files or a column say; ratio: drawn, of each class alike; group: whole groups "
        "(speakers) are drawn; left out: as given if the upload says so, else by ratio",
    )
    validation = serializers.FloatField(
        default=0.1, min_value=0.01, max_value=0.5, help_text="the share of the validation split, 0.01 to 0.5"
    )
    seed = serializers.IntegerField(
        default=0, min_value=0, max_value=2**31 - 1, help_text="the same content and seed give the same split"
    )
    column = StrictText(
        required=False,
        max_length=200,
        help_text="the column that says the split or the group, where it is called neither `split` nor `group` "
        "(`speaker`)",
    )


class ProseText(StrictText):
    """Text of several lines."""

    default_error_messages = {"control": "Expected text without control characters other than ends of lines and tabs."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("not_text")
        super().to_internal_value(data.translate({ord(blank): " " for blank in "\t\r\n"}))
        return serializers.CharField.to_internal_value(self, data)


class AboutSerializer(StrictSerializer):
    """What is said about a version of a data set; a field that is not sent stays as it is."""

    licence = StrictText(
        required=False, allow_blank=True, max_length=100, help_text="under which the data may be used: `CC-BY-4.0`"
    )
    source = StrictText(  # type: ignore[assignment]
        required=False, allow_blank=True, max_length=500, help_text="where the data come from"
    )
    notes = ProseText(required=False, allow_blank=True, max_length=4000)
    retain_until = serializers.DateTimeField(
        required=False, allow_null=True, help_text="when its content is erased, by itself; null for never"
    )


ABOUT = tuple(AboutSerializer().fields)


class CreateDatasetSerializer(AboutSerializer):
    """What a new data set is to be."""

    name = StrictText(min_length=1, max_length=80, help_text="1 to 80 characters; no two data sets have the same name")
    kind = serializers.ChoiceField(choices=DatasetKind.choices, help_text="what the items are")
    split = SplitSerializer(required=False)
    columns = serializers.DictField(
        child=serializers.ChoiceField(choices=columns.TYPES),
        required=False,
        help_text='for tables: the types of columns by name, {"age": "integer"}; those of others are inferred',
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Columns are of tables; only a way that reads a column has one."""
        if attrs.get("columns") and attrs["kind"] != DatasetKind.TABLE:
            raise serializers.ValidationError({"columns": ["Expected for the kind table only."]})
        split = attrs.get("split", {})
        if split.get("column") and split.get("by") not in (splits.GIVEN, splits.GROUP):
            raise serializers.ValidationError({"split": ["A column goes with `by` given or group only."]})
        return attrs


class DatasetQuery(PageQuery):
    """The filters of the list."""

    state = serializers.ChoiceField(choices=DatasetState.choices, required=False, help_text="only those in this state")
    kind = serializers.ChoiceField(choices=DatasetKind.choices, required=False, help_text="only those of this kind")
    name = serializers.CharField(required=False, help_text="the versions of this name")
    number = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="those of this number"
    )


class ProgressSerializer(serializers.Serializer[Any]):
    """How far the upload under way is; empty where none is."""

    phase = serializers.ChoiceField(choices=["receiving", "checking"], required=False)
    done = serializers.IntegerField(required=False, help_text="bytes received, or files or bytes checked")
    total = serializers.IntegerField(required=False)


class DatasetSerializer(serializers.Serializer[Any]):
    """A version of a data set."""

    id = serializers.CharField(help_text="`ds_` and 26 characters; each version has one of its own")
    name = serializers.CharField(help_text="all versions have one name")
    number = serializers.IntegerField(help_text="of the version, from 1")
    latest = serializers.IntegerField(help_text="number of the newest version, whether it still exists or not")
    family = serializers.CharField(help_text="id of the first version")
    parent = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="id of the version that it came from; null for a first one"
    )
    kind = serializers.ChoiceField(choices=DatasetKind.choices)
    state = serializers.ChoiceField(
        choices=DatasetState.choices,
        help_text="created, uploading, checked (good enough to train on), rejected (see the report), sealed or erased",
    )
    split = serializers.SerializerMethodField(help_text="how it is divided: by, validation, seed, column")
    columns = serializers.DictField(
        child=serializers.CharField(), help_text="the types of columns that were given, by name"
    )
    items = serializers.IntegerField(help_text="pictures, recordings or rows in it")
    size = serializers.IntegerField(help_text="bytes of all items")
    classes = serializers.SerializerMethodField(help_text="the names of its classes, sorted")
    manifest_sha256 = serializers.CharField(help_text="names the content exactly; empty where there is none")
    report = ReportSerializer(allow_null=True, help_text="what the check of the last upload found")
    progress = ProgressSerializer()
    licence = serializers.CharField(help_text="a model version that is made of it inherits licence, source and notes")
    source = serializers.CharField()  # type: ignore[assignment]
    notes = serializers.CharField()
    retain_until = serializers.DateTimeField(allow_null=True, help_text="when its content is erased, by itself")
    created_at = serializers.DateTimeField()
    sealed_at = serializers.DateTimeField(allow_null=True)
    erased_at = serializers.DateTimeField(allow_null=True, help_text="since then nothing is left but this")

    def get_parent(self, dataset: Dataset) -> str | None:
        return dataset.parent or None

    @extend_schema_field(SplitSerializer)
    def get_split(self, dataset: Dataset) -> dict[str, Any]:
        return dataset.split or splits.Split().as_json()

    def get_classes(self, dataset: Dataset) -> list[str]:
        return sorted(dataset.report["splits"]["train"]) if dataset.manifest_sha256 and dataset.report else []


DATASET_PAGE = openapi.page_of(DatasetSerializer)


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
        responses=openapi.answers(200, DATASET_PAGE, 400),
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
            name=wanted["name"],
            kind=wanted["kind"],
            split=splits.Split(**wanted["split"]) if "split" in wanted else None,
            columns=wanted.get("columns"),
            about={name: wanted[name] for name in ABOUT if name in wanted},
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
    """The content of a data set: one file, taken as it streams in."""

    atomic: ClassVar[bool] = False

    @extend_schema(
        operation_id="upload_dataset",
        summary="Upload the data set's content as one file",
        description=(
            "A zip file, or for kinds of rows also a bare CSV, TSV or JSON Lines file. Pictures lie in "
            "`train/<class>/*` and `validation/<class>/*` or in `<class>/*`, or are listed in a CSV file (`file`, "
            "`label`, `split`, `group`); recordings are listed in `transcripts.csv` (`path`, `transcript`, `speaker`, "
            "`split`); rows have `text` and `label`, `source` and `target`, or a table's columns: docs/datasets.md. "
            "Every item is decoded before the answer comes; meanwhile a GET of the data set shows the progress. Bad "
            "items are named in the report and left out if the rest suffice. A new upload takes the place of the one "
            "before, unless it was cut; with `mode=add` its items are added to those that are there (of two of one "
            "name the new one stays), and an upload that cannot be used changes nothing. Large files are better sent "
            "in parts. Refused: a data set that is sealed or erased, or has a newer upload under way (409), a body "
            "without Content-Length (411) or over the limit (413), another content type (415), and what would pass "
            "the plan's limit of stored bytes (429)."
        ),
        tags=TAGS,
        parameters=[ContentQuery],
        request=dict.fromkeys(CONTENT_TYPES, OpenApiTypes.BINARY),
        responses=openapi.answers(200, DatasetSerializer, 404, 409, 411, 413, 415, 429, 503)
        | {(400, CONTENT_TYPE): DatasetProblemSerializer},
    )
    def put(self, request: Request, dataset_id: str) -> Response:
        tenant = self.caller.tenant
        with scoping.tenant(tenant.pk):
            dataset = datasets.get(tenant=tenant, dataset_id=dataset_id)
        mode = self.query(ContentQuery).get("mode", UploadMode.REPLACE)
        media_type = checked_media_type((request.content_type or "").partition(";")[0], dataset=dataset)
        dataset = datasets.receive(
            tenant=tenant,
            dataset_id=dataset_id,
            # Django's own request: no parser of the framework may hold the body in memory.
            content=request._request,
            content_type=media_type,
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


def checked_media_type(media_type: str, *, dataset: Dataset) -> str:
    """The media type of a data set's file as it is compared; raises UnsupportedMedia for one that is not taken."""
    found = media_type.strip().lower()
    taken = kinds.get(dataset.kind).content_types
    if found not in taken:
        raise UnsupportedMedia(f"The content type is {found or 'missing'}; expected {' or '.join(taken)}.")
    return found


def with_report(response: Response, refusal: Exception) -> Response:
    """A refusal's answer; where the content cannot be used, it says what the check found."""
    if isinstance(refusal, datasets.Unusable):
        response.data["report"] = refusal.report
    return response
