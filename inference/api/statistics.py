"""Statistics of a deployment: what it answered, how fast, and in what batches, over minutes or hours."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import deployment_statistics, deployments
from inference.deployment_statistics import Counts, Window
from inference.models import Width
from tenants.api import openapi
from tenants.api.serializers import StrictSerializer
from tenants.api.views import TenantView

# How many minutes or hours are shown, and how many may be asked for.
USUAL = {Width.MINUTE: 60, Width.HOUR: 48}
MOST = {Width.MINUTE: 1440, Width.HOUR: 2160}


class StatisticsQuery(StrictSerializer):
    bucket_width = serializers.ChoiceField(choices=Width.choices, default=Width.MINUTE, help_text="in UTC")
    window = serializers.IntegerField(
        min_value=1, required=False,
        help_text="how many minutes (60; at most 1440) or hours (48; at most 2160), the one that runs included",
    )  # fmt: skip
    version = serializers.CharField(max_length=100, required=False, help_text="only this version: model@number")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        width = attrs["bucket_width"] = Width(attrs["bucket_width"])
        if attrs.setdefault("window", USUAL[width]) > MOST[width]:
            raise serializers.ValidationError(
                {"window": f"Expected at most {MOST[width]} for buckets of a {width}; got {attrs['window']}."}
            )
        return attrs


class CountsSerializer(serializers.Serializer[Counts]):
    """Sums over some time. What is a mean or a quantile of nothing is null."""

    requests = serializers.IntegerField(help_text="answers and refusals")
    client_errors = serializers.IntegerField(help_text="refusals from 400 to 499")
    server_errors = serializers.IntegerField(help_text="refusals from 500 on")
    rows = serializers.IntegerField(help_text="rows that were answered")
    batches = serializers.IntegerField(help_text="times that a model was run")
    cache_hits = serializers.IntegerField(help_text="requests that the response cache answered")
    mean_batch = serializers.FloatField(allow_null=True, help_text="rows in a batch")
    p50_ms = serializers.FloatField(allow_null=True, help_text="of answers, to within an eighth, from above")
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)
    mean_queue_ms = serializers.FloatField(allow_null=True, help_text="from the queue's end to its head")
    mean_compute_ms = serializers.FloatField(allow_null=True, help_text="a request's share of its batch's time")


class VersionCountsSerializer(CountsSerializer):
    version = serializers.CharField(
        allow_null=True, help_text="model@number; null for requests that were refused before one was chosen"
    )


class BucketSerializer(CountsSerializer):
    start = serializers.DateTimeField()


class StatisticsSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    bucket_width = serializers.ChoiceField(choices=Width.choices)
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="the first moment after it")
    total = CountsSerializer()
    versions = VersionCountsSerializer(many=True, help_text="the same by version")
    buckets = BucketSerializer(many=True, help_text="by time, oldest first; those without a request are left out")


class StatisticsView(TenantView):
    """The statistics of one deployment."""

    @extend_schema(
        operation_id="get_deployment_statistics",
        tags=["Deployments"],
        parameters=[StatisticsQuery],
        responses=openapi.answers(200, StatisticsSerializer, 400, 404),
    )
    def get(self, request: Request, name: str) -> Response:
        """What a deployment answered lately, on all servers; requests are in it seconds after they were answered."""
        query = self.query(StatisticsQuery)
        window = deployment_statistics.last(
            deployment=deployments.get(tenant=self.caller.tenant, name=name),
            width=query["bucket_width"],
            count=query["window"],
            version=query.get("version"),
            now=timezone.now(),
        )
        return Response(StatisticsSerializer(_shown(name, window)).data)


def _shown(name: str, window: Window) -> dict[str, Any]:
    return {
        "deployment": name,
        "bucket_width": window.width,
        "start": window.start,
        "end": window.end,
        "total": window.total,
        "versions": [
            {"version": version or None, **_as_dict(counts)} for version, counts in sorted(window.versions.items())
        ],
        "buckets": [{"start": start, **_as_dict(counts)} for start, counts in window.times.items()],
    }


def _as_dict(counts: Counts) -> dict[str, Any]:
    return CountsSerializer(counts).data
