"""Deployments: list, create, see, point to another version, delete."""

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import deployments
from inference.models import Deployment
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent

MODEL = "name of a model in the registry"
VERSION = "number of the version that answers"


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    model = serializers.CharField(source="version.model.name", help_text=MODEL)
    version = serializers.IntegerField(source="version.number", help_text=VERSION)

    class Meta:
        model = Deployment
        fields = ["id", "name", "model", "version", "created_at", "updated_at"]
        read_only_fields = fields


class CreateDeploymentSerializer(StrictSerializer):
    name = serializers.CharField(max_length=60, help_text="a-z, 0-9, '.', '_', '-'; the name that clients call")
    model = serializers.CharField(max_length=60, help_text=MODEL)
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text=VERSION)


class PointDeploymentSerializer(StrictSerializer):
    model = serializers.CharField(max_length=60, required=False, help_text="another model; by default the same")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text=VERSION)


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
        rows = Deployment.objects.for_tenant(self.caller.tenant).select_related("version__model")
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


class DeploymentView(TenantView):
    """One deployment."""

    @extend_schema(
        operation_id="get_deployment", tags=["Deployments"], responses=openapi.answers(200, DeploymentSerializer, 404)
    )
    def get(self, request: Request, name: str) -> Response:
        """A deployment of the tenant."""
        self.query(StrictSerializer)
        return Response(DeploymentSerializer(deployments.get(tenant=self.caller.tenant, name=name)).data)

    @extend_schema(
        operation_id="point_deployment",
        tags=["Deployments"],
        request=PointDeploymentSerializer,
        responses=openapi.answers(200, DeploymentSerializer, 400, 404),
    )
    def patch(self, request: Request, name: str) -> Response:
        """Serves another version under the name; asked again, changes nothing."""
        wanted = self.body(PointDeploymentSerializer)
        row = deployments.point(
            tenant=self.caller.tenant,
            name=name,
            model=wanted.get("model"),
            number=wanted["version"],
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(DeploymentSerializer(row).data)

    @extend_schema(operation_id="delete_deployment", tags=["Deployments"], responses=openapi.answers(204, None, 404))
    def delete(self, request: Request, name: str) -> Response:
        """Ends the service under the name; the version stays in the registry."""
        deployments.delete(tenant=self.caller.tenant, name=name, actor=self.caller.actor)
        return Response(status=204)
