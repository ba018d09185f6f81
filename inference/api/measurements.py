"""What the engines do with a version, over HTTP."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference.models import EngineMeasurement
from modelhub import registry
from tenants.api import openapi
from tenants.api.serializers import PageQuery
from tenants.api.views import TenantView


class EngineMeasurementSerializer(serializers.ModelSerializer[EngineMeasurement]):
    """The times of a version's candidates on hosts of one kind, and which of them serves there."""

    table = serializers.ListField(
        child=serializers.DictField(),
        help_text="for each candidate: engine, file, error, milliseconds_by_threads_and_batch, and in "
        "milliseconds_besides what a batch costs beside its run",
    )

    class Meta:
        model = EngineMeasurement
        fields = [
            "id",
            "host",
            "engine",
            "file",
            "best_batch",
            "threads_of_a_lone_request",
            "table",
            "disturbance",
            "measured_at",
        ]
        read_only_fields = fields


class MeasurementsView(TenantView):
    """The measurements of one version."""

    @extend_schema(
        operation_id="list_version_measurements",
        tags=["Models"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(EngineMeasurementSerializer), 400, 404),
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        """How fast each engine runs the version, by kind of host; taken when it is first loaded on one."""
        self.query(PageQuery)
        version = registry.version(tenant=self.caller.tenant, model_name=name, number=number)
        rows = EngineMeasurement.objects.for_tenant(self.caller.tenant).filter(version=version)
        return self.page(rows, EngineMeasurementSerializer)
