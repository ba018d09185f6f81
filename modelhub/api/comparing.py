"""Versions of a model side by side, over HTTP."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import comparing
from modelhub.comparing import Comparison, OnOneDataset
from modelhub.models import ModelVersion
from tenants.api import openapi
from tenants.api.serializers import StrictSerializer
from tenants.api.views import TenantView

FIGURES = serializers.DictField(
    child=serializers.ListField(child=serializers.FloatField(allow_null=True)),
    help_text="a figure of each version by its name, in the order of `versions`; null where it has none",
)


class ComparedVersionSerializer(serializers.Serializer[ModelVersion]):
    """A version, and what it was made of."""

    id = serializers.CharField()
    number = serializers.IntegerField()
    recipe = serializers.CharField()
    created_at = serializers.DateTimeField()
    job = serializers.CharField(source="job_id", allow_null=True)
    dataset = serializers.CharField(source="dataset_id", allow_null=True)
    dataset_sha256 = serializers.CharField(help_text="names the data set's content exactly")
    parameters = serializers.DictField()
    metrics = serializers.DictField(help_text="on its own validation split")


class ComparedEvaluationsSerializer(serializers.Serializer[OnOneDataset]):
    """The newest evaluation of each version on one split of one data set."""

    dataset = serializers.CharField(source="dataset_id")
    dataset_name = serializers.CharField()
    split = serializers.CharField()
    evaluations = serializers.SerializerMethodField(help_text="their ids; null where a version has none there")
    metrics = FIGURES

    def get_evaluations(self, found: OnOneDataset) -> list[str | None]:
        return [None if one is None else one.pk for one in found.evaluations]


class ComparisonSerializer(serializers.Serializer[Comparison]):
    """Versions side by side."""

    versions = ComparedVersionSerializer(many=True)
    same_dataset = serializers.BooleanField(help_text="whether all of them learned from the very same content")
    parameters = serializers.DictField(
        child=serializers.ListField(child=serializers.JSONField()), help_text="those that differ, of each version"
    )
    metrics = FIGURES
    evaluations = ComparedEvaluationsSerializer(many=True, source="evaluated", help_text="on the same data")


class CompareQuery(StrictSerializer):
    """Which versions."""

    versions = serializers.RegexField(
        r"^[0-9]{1,9}(,[0-9]{1,9})*$",
        max_length=120,
        help_text="numbers of versions, parted by commas",
        error_messages={"invalid": "Expected numbers of versions, parted by commas, as 1,2."},
    )


class CompareView(TenantView):
    """Versions side by side."""

    @extend_schema(
        operation_id="compare_model_versions",
        tags=["Models"],
        parameters=[CompareQuery],
        responses=openapi.answers(200, ComparisonSerializer, 400, 404),
    )
    def get(self, request: Request, name: str) -> Response:
        """Versions of a model: their parameters, metrics and data, and their evaluations on the same data."""
        numbers = [int(number) for number in self.query(CompareQuery)["versions"].split(",")]
        found = comparing.compare(tenant=self.caller.tenant, model_name=name, numbers=numbers)
        return Response(ComparisonSerializer(found).data)
