"""Deployments: list, create, see, change, roll back, promote, pause, resume, label, delete."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import deployments
from inference.models import Deployment
from inference.models.deployments import STICKY
from modelhub.models import ModelVersion
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent

Method = TypeVar("Method", bound=Callable[..., Response])
MODEL = "name of a model in the registry"
VERSION = "number of the version that answers"


class TargetSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(help_text=MODEL)
    version = serializers.IntegerField(help_text="number of a version")
    weight = serializers.IntegerField(help_text="percent of the requests")


class NamedVersionSerializer(serializers.ModelSerializer[ModelVersion]):
    model = serializers.CharField(source="model.name", help_text=MODEL)
    version = serializers.IntegerField(source="number", help_text="number of a version")

    class Meta:
        model = ModelVersion
        fields = ["model", "version"]
        read_only_fields = fields


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    model = serializers.CharField(source="version.model.name", help_text=MODEL)
    version = serializers.IntegerField(source="version.number", help_text="number of the main version")
    targets = serializers.SerializerMethodField(help_text="versions that answer, the main one first")
    previous = NamedVersionSerializer(allow_null=True, help_text="what a roll-back returns to when nothing is split")
    shadow = NamedVersionSerializer(allow_null=True, help_text="asked beside the answer, compared, never returned")
    labels = serializers.SerializerMethodField(help_text="versions by label")

    class Meta:
        model = Deployment
        fields = [
            "id", "name", "model", "version", "targets", "sticky", "previous", "shadow", "labels", "paused",
            "requests_per_minute", "concurrency", "rows_per_request", "queue_rows", "cache_seconds",
            "rollback_error_rate", "rollback_p99_ms", "rollback_window_seconds", "rollback_minimum_requests",
            "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(TargetSerializer(many=True))
    def get_targets(self, row: Deployment) -> list[dict[str, Any]]:
        canaries = [(one.version, one.weight) for one in row.targets.all()]
        main = 100 - sum(weight for _, weight in canaries)
        return [
            {"model": version.model.name, "version": version.number, "weight": weight}
            for version, weight in ((row.version, main), *canaries)
        ]

    @extend_schema_field(serializers.DictField(child=NamedVersionSerializer()))
    def get_labels(self, row: Deployment) -> dict[str, Any]:
        return {one.name: NamedVersionSerializer(one.version).data for one in row.labels.all()}


class CreateDeploymentSerializer(StrictSerializer):
    name = serializers.CharField(max_length=60, help_text="a-z, 0-9, '.', '_', '-'; the name that clients call")
    model = serializers.CharField(max_length=60, help_text=MODEL)
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text=VERSION)


def _positive(help_text: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, allow_null=True, help_text=f"{help_text}; null for no limit"
    )


class ShareSerializer(StrictSerializer):
    model = serializers.CharField(max_length=60, required=False, help_text="another model; by default the same")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="number of a version")
    weight = serializers.IntegerField(min_value=1, max_value=100, help_text="percent of the requests")


class VersionSerializer(StrictSerializer):
    model = serializers.CharField(max_length=60, required=False, help_text="another model; by default the same")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="number of a version")


class ChangeDeploymentSerializer(StrictSerializer):
    """What is named is changed; what is not stays."""

    model = serializers.CharField(max_length=60, required=False, help_text="with `version`: another model")
    version = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="the version that answers alone from now on"
    )
    targets = ShareSerializer(
        many=True, required=False, help_text="a weighted split: whole percents that add up to 100"
    )
    shadow = VersionSerializer(required=False, allow_null=True, help_text="asked as well; null ends it")
    sticky = serializers.RegexField(
        f"^{STICKY}$", required=False, help_text="request (by chance), key, or header:NAME",
        error_messages={"invalid": "Expected request, key, or header:NAME."},
    )  # fmt: skip
    requests_per_minute = _positive("requests in a minute, over all keys")
    concurrency = _positive("requests under way at once")
    rows_per_request = _positive("rows of one request")
    queue_rows = _positive("rows that may wait for the version")
    cache_seconds = serializers.IntegerField(
        min_value=0, max_value=86400, required=False, help_text="how long an answer is kept; 0 keeps none"
    )
    rollback_error_rate = serializers.FloatField(
        min_value=0.0001, max_value=1, required=False, allow_null=True,
        help_text="rolls back above this share of failed requests; null for never",
    )  # fmt: skip
    rollback_p99_ms = _positive("rolls back above this p99 in milliseconds")
    rollback_window_seconds = serializers.IntegerField(
        min_value=10, max_value=86400, required=False, help_text="over which the bounds are looked at"
    )
    rollback_minimum_requests = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="below which the bounds are not looked at"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError({"version": ["Expected a field to change; the body names none."]})
        if "version" in attrs and "targets" in attrs:
            raise serializers.ValidationError({"targets": ["Expected either `version` or `targets`."]})
        if "model" in attrs and "version" not in attrs:
            raise serializers.ValidationError({"version": ["Expected the number of a version of this model."]})
        return attrs


class PromoteSerializer(StrictSerializer):
    version = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="which canary, where there are several"
    )


class DeploymentQuery(PageQuery):
    model = serializers.CharField(max_length=60, required=False, help_text="only those that serve this model")
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="only those that serve a version of this number"
    )


class DeploymentsView(TenantView):
    """The tenant's deployments."""

    @extend_schema(
        operation_id="list_deployments",
        tags=["Deployments"],
        parameters=[DeploymentQuery],
        responses=openapi.answers(200, openapi.page_of(DeploymentSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """What answers predictions, and which version it is."""
        query = self.query(DeploymentQuery)
        rows = deployments.with_versions(Deployment.objects.for_tenant(self.caller.tenant))
        if "model" in query:
            rows = rows.filter(version__model__name=query["model"])
        if "version" in query:
            rows = rows.filter(version__number=query["version"])
        return self.page(rows, DeploymentSerializer)

    @extend_schema(
        operation_id="create_deployment",
        tags=["Deployments"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=CreateDeploymentSerializer,
        responses=openapi.answers(201, DeploymentSerializer, 400, 409),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Serves a version under a name that is free."""
        wanted = self.body(CreateDeploymentSerializer)
        row = deployments.create(
            tenant=self.caller.tenant,
            name=wanted["name"],
            model=wanted["model"],
            number=wanted["version"],
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(DeploymentSerializer(row).data, status=201)


class OneDeploymentView(TenantView):
    """What the views of one deployment share."""

    def about(self, name: str) -> dict[str, Any]:
        """What every verb is told."""
        return {"tenant": self.caller.tenant, "name": name, "actor": self.caller.actor, "now": timezone.now()}

    def shown(self, name: str) -> Response:
        return Response(DeploymentSerializer(deployments.get(tenant=self.caller.tenant, name=name)).data)


class DeploymentView(OneDeploymentView):
    """One deployment."""

    @extend_schema(
        operation_id="get_deployment", tags=["Deployments"], responses=openapi.answers(200, DeploymentSerializer, 404)
    )
    def get(self, request: Request, name: str) -> Response:
        """A deployment of the tenant."""
        self.query(StrictSerializer)
        return self.shown(name)

    @extend_schema(
        operation_id="change_deployment",
        tags=["Deployments"],
        request=ChangeDeploymentSerializer,
        responses=openapi.answers(200, DeploymentSerializer, 400, 404),
    )
    def patch(self, request: Request, name: str) -> Response:
        """Serves another version or a split, or sets what is named; asked again, changes nothing."""
        deployments.get(tenant=self.caller.tenant, name=name)
        wanted = self.body(ChangeDeploymentSerializer)
        about = self.about(name)
        if "version" in wanted:
            deployments.point(**about, model=wanted.get("model"), number=wanted["version"])
        if "targets" in wanted:
            shares = [deployments.Share(one["version"], one["weight"], one.get("model")) for one in wanted["targets"]]
            deployments.split(**about, shares=shares)
        if "shadow" in wanted:
            other = wanted["shadow"] or {}
            deployments.shadow(**about, model=other.get("model"), number=other.get("version"))
        settings = {field: wanted[field] for field in deployments.SETTINGS if field in wanted}
        if settings:
            deployments.limit(**about, settings=settings)
        return self.shown(name)

    @extend_schema(operation_id="delete_deployment", tags=["Deployments"], responses=openapi.answers(204, None, 404))
    def delete(self, request: Request, name: str) -> Response:
        """Ends the service under the name; the version stays in the registry."""
        deployments.delete(tenant=self.caller.tenant, name=name, actor=self.caller.actor)
        return Response(status=204)


def _verb(operation_id: str, *codes: int, request: Any = None) -> Callable[[Method], Method]:
    return extend_schema(
        operation_id=operation_id,
        tags=["Deployments"],
        request=request,
        responses=openapi.answers(200, DeploymentSerializer, *codes),
    )


class RollbackView(OneDeploymentView):
    @_verb("roll_back_deployment", 400, 404, 409)
    def post(self, request: Request, name: str) -> Response:
        """Ends a split, or serves the version before; a second call has nothing to return to and is refused."""
        deployments.roll_back(**self.about(name))
        return self.shown(name)


class PromoteView(OneDeploymentView):
    @_verb("promote_deployment", 400, 404, 409, request=PromoteSerializer)
    def post(self, request: Request, name: str) -> Response:
        """Ends a split in favour of its canary."""
        deployments.promote(**self.about(name), number=self.body(PromoteSerializer).get("version"))
        return self.shown(name)


class PauseView(OneDeploymentView):
    @_verb("pause_deployment", 404)
    def post(self, request: Request, name: str) -> Response:
        """Refuses predictions with 503 until it is resumed."""
        deployments.pause(**self.about(name))
        return self.shown(name)


class ResumeView(OneDeploymentView):
    @_verb("resume_deployment", 404)
    def post(self, request: Request, name: str) -> Response:
        """Answers predictions again."""
        deployments.resume(**self.about(name))
        return self.shown(name)


class LabelView(OneDeploymentView):
    """A label of a deployment."""

    @_verb("label_deployment", 400, 404, request=VersionSerializer)
    def put(self, request: Request, name: str, label: str) -> Response:
        """Names a version, or moves the name; clients call it at `/v1/models/NAME/labels/LABEL`."""
        deployments.get(tenant=self.caller.tenant, name=name)
        wanted = self.body(VersionSerializer)
        deployments.label(**self.about(name), label=label, model=wanted.get("model"), number=wanted["version"])
        return self.shown(name)

    @extend_schema(operation_id="unlabel_deployment", tags=["Deployments"], responses=openapi.answers(204, None, 404))
    def delete(self, request: Request, name: str, label: str) -> Response:
        """Takes the label away; the version stays."""
        deployments.unlabel(**self.about(name), label=label)
        return Response(status=204)
