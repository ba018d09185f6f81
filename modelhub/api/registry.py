"""Models and their versions over HTTP."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import charts, registry
from modelhub.api import svg
from modelhub.models import Model, ModelVersion
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView
from tenants.errors import NotFound

TAGS = ["Models"]


class ModelSerializer(serializers.ModelSerializer[Model]):
    """A model: the name under which versions are kept."""

    class Meta:
        model = Model
        fields = ["id", "name", "latest", "created_at"]
        read_only_fields = fields


class LineageSerializer(serializers.Serializer[Any]):
    """What a version was made by and of; null where it was not trained here."""

    job = serializers.CharField(source="job_id", allow_null=True, help_text="id of the training job")
    dataset = serializers.CharField(source="dataset_id", allow_null=True, help_text="id of the data set")
    dataset_sha256 = serializers.CharField(help_text="names the data set's content exactly")


class ProvenanceSerializer(serializers.Serializer[Any]):
    """What a version inherited of its data set when it was made."""

    name = serializers.CharField(help_text="of the data set")
    number = serializers.IntegerField(help_text="of the data set's version")
    licence = serializers.CharField(help_text="under which the data may be used")
    source = serializers.CharField(help_text="where the data come from")  # type: ignore[assignment]
    notes = serializers.CharField()


class ModelVersionSerializer(serializers.ModelSerializer[ModelVersion]):
    """A version of a model. It never changes."""

    model = serializers.CharField(source="model.name")
    files = serializers.DictField(source="manifest.files", help_text="sha256 and size of each file")
    serving = serializers.DictField(source="manifest.serving", help_text="which file is served, by which engine")
    signature = serializers.DictField(source="manifest.signature", help_text="the tensors that go in and come out")
    preprocessing = serializers.DictField(
        source="manifest.preprocessing", help_text="what is done to raw input, at training and at serving"
    )
    labels = serializers.ListField(source="manifest.labels", child=serializers.CharField())
    decision = serializers.DictField(source="manifest.decision", help_text="how outputs become a label")
    conversion = serializers.DictField(
        source="manifest.conversion", help_text="how far the converted files are from the trained model"
    )
    metrics = serializers.DictField(help_text="on the validation split: accuracy, loss, confusion_matrix, classes")
    parameters = serializers.DictField(help_text="the recipe's parameters of the training")
    lineage = LineageSerializer(source="*")
    provenance = serializers.SerializerMethodField(help_text="of the data; null where the version was not trained here")

    class Meta:
        model = ModelVersion
        fields = [
            "id",
            "model",
            "number",
            "recipe",
            "files",
            "serving",
            "signature",
            "preprocessing",
            "labels",
            "decision",
            "metrics",
            "parameters",
            "conversion",
            "lineage",
            "provenance",
            "manifest_sha256",
            "created_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ProvenanceSerializer(allow_null=True))
    def get_provenance(self, version: ModelVersion) -> dict[str, Any] | None:
        found = version.manifest.get("provenance")  # versions of before have none
        return dict(ProvenanceSerializer(found).data) if found else None


class ModelQuery(PageQuery):
    """The filters of the list."""

    name = serializers.CharField(required=False, help_text="the one of this name")


class ModelsView(TenantView):
    """The tenant's models."""

    @extend_schema(
        operation_id="list_models",
        tags=TAGS,
        parameters=[ModelQuery],
        responses=openapi.answers(200, openapi.page_of(ModelSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's models, newest first."""
        query = self.query(ModelQuery)
        rows = Model.objects.for_tenant(self.caller.tenant)
        return self.page(rows.filter(name=query["name"]) if "name" in query else rows, ModelSerializer)


class ModelView(TenantView):
    """One model."""

    @extend_schema(operation_id="get_model", tags=TAGS, responses=openapi.answers(200, ModelSerializer, 400, 404))
    def get(self, request: Request, name: str) -> Response:
        """A model, and the number of its newest version."""
        self.query(StrictSerializer)
        return Response(ModelSerializer(registry.model(tenant=self.caller.tenant, name=name)).data)


class ModelVersionsView(TenantView):
    """The versions of a model."""

    @extend_schema(
        operation_id="list_model_versions",
        tags=TAGS,
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(ModelVersionSerializer), 400, 404),
    )
    def get(self, request: Request, name: str) -> Response:
        """The versions of a model, newest first."""
        self.query(PageQuery)
        model = registry.model(tenant=self.caller.tenant, name=name)
        rows = ModelVersion.objects.for_tenant(self.caller.tenant).select_related("model").filter(model=model)
        return self.page(rows, ModelVersionSerializer)


class ModelVersionView(TenantView):
    """One version."""

    @extend_schema(
        operation_id="get_model_version", tags=TAGS, responses=openapi.answers(200, ModelVersionSerializer, 400, 404)
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        """A version: its files, what it takes and gives, how good it is, and what it was made of."""
        self.query(StrictSerializer)
        version = registry.version(tenant=self.caller.tenant, model_name=name, number=number)
        return Response(ModelVersionSerializer(version).data)


class ModelVersionConfusionView(TenantView):
    """The confusion matrix of a version, drawn."""

    @extend_schema(
        operation_id="draw_model_version_confusion",
        tags=TAGS,
        responses=openapi.file_answers(svg.CONTENT_TYPE, 400, 404),
    )
    def get(self, request: Request, name: str, number: int) -> HttpResponse:
        """The confusion matrix of a version on its validation split, as SVG."""
        self.query(StrictSerializer)
        version = registry.version(tenant=self.caller.tenant, model_name=name, number=number)
        matrix = version.metrics.get("confusion_matrix")
        if matrix is None:
            raise NotFound(f"The version {version} has no confusion matrix: it does not answer with a class.")
        return svg.response(charts.confusion(matrix, title=f"{version} on its validation split"))
