"""Deployments over HTTP."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import deployments
from inference.models import Deployment
from tenants.api.views import TenantView, idempotent


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    """A deployment as the API shows it."""

    model = serializers.CharField(source="version.model.name", help_text="name of the model")
    version = serializers.IntegerField(source="version.number", help_text="number of the version that answers")

    class Meta:
        model = Deployment
        fields = ["id", "name", "model", "version", "created_at", "updated_at"]


class NewDeployment(serializers.Serializer[Any]):
    """What a deployment is made of."""

    name = serializers.CharField(max_length=60, help_text="a-z, 0-9, '.', '_', '-'; the name that clients call")
    model = serializers.CharField(max_length=60, help_text="name of a model in the registry")
    version = serializers.IntegerField(min_value=1, help_text="number of the version to serve")


@extend_schema_serializer(component_name="DeploymentTarget")
class Target(serializers.Serializer[Any]):
    """Which version a deployment is to serve."""

    model = serializers.CharField(max_length=60, required=False, help_text="another model; by default the same")
    version = serializers.IntegerField(min_value=1, help_text="number of the version to serve")


class DeploymentsView(TenantView):
    """List and create."""

    @extend_schema(
        summary="List deployments",
        parameters=[OpenApiParameter("model", str, description="only those that serve this model")],
        responses=DeploymentSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = Deployment.objects.for_tenant(self.caller.tenant).select_related("version__model")
        if model := request.query_params.get("model"):
            rows = rows.filter(version__model__name=model)
        return self.page(rows, DeploymentSerializer)

    @extend_schema(
        summary="Deploy a version under a name", request=NewDeployment, responses={201: DeploymentSerializer}
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = NewDeployment(data=request.data)
        body.is_valid(raise_exception=True)
        row = deployments.create(
            tenant=self.caller.tenant,
            name=body.validated_data["name"],
            model=body.validated_data["model"],
            number=body.validated_data["version"],
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(DeploymentSerializer(row).data, status=201)


class DeploymentView(TenantView):
    """One deployment: see, point to another version, delete."""

    @extend_schema(summary="A deployment", responses=DeploymentSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(DeploymentSerializer(deployments.get(tenant=self.caller.tenant, name=name)).data)

    @extend_schema(summary="Point a deployment to another version", request=Target, responses=DeploymentSerializer)
    def patch(self, request: Request, name: str) -> Response:
        body = Target(data=request.data)
        body.is_valid(raise_exception=True)
        row = deployments.point(
            tenant=self.caller.tenant,
            name=name,
            model=body.validated_data.get("model"),
            number=body.validated_data["version"],
            actor=self.caller.actor,
            now=timezone.now(),
        )
        return Response(DeploymentSerializer(row).data)

    @extend_schema(summary="Delete a deployment", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        deployments.delete(tenant=self.caller.tenant, name=name, actor=self.caller.actor)
        return Response(status=204)
