"""Batch predictions over HTTP; the stream of their progress is `inference/plane/events.py`."""

from typing import Any

from django.http import FileResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import batch_predictions, batch_requests
from inference.batch_requests import Request as BatchRequest
from inference.models import BatchPrediction
from modelhub.models import JobState
from tenants.api import openapi
from tenants.api.quotes import BudgetField, BudgetSerializer, QuoteSerializer
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent

TAGS = ["Batch predictions"]
NDJSON = "application/x-ndjson"


class BatchRowsSerializer(serializers.Serializer[BatchPrediction]):
    """How far a batch prediction is, in rows."""

    total = serializers.IntegerField(source="rows_total")
    done = serializers.IntegerField(source="rows_done", help_text="those that failed among them")
    failed = serializers.IntegerField(source="rows_failed", help_text="their lines say why; they are not billed")


class BatchResultsSerializer(serializers.Serializer[BatchPrediction]):
    """The file of the results."""

    sha256 = serializers.CharField(source="result_sha256")
    size = serializers.IntegerField(source="result_size", help_text="bytes")


class BatchPredictionSerializer(serializers.ModelSerializer[BatchPrediction]):
    """A batch prediction."""

    deployment = serializers.CharField(source="deployment_name")
    model = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number", help_text="answers every row, whatever is deployed")
    dataset = serializers.CharField(source="dataset_id", help_text="id of the data set")
    rows = BatchRowsSerializer(source="*")
    results = serializers.SerializerMethodField(help_text="null while there are none")
    error = serializers.SerializerMethodField(help_text="why it failed, in words; null if it did not")
    budget = serializers.SerializerMethodField(help_text="the most that it may cost; null if that was left open")
    stop_reason = serializers.SerializerMethodField(
        help_text="why it answered less than all rows, in words; null if it did not"
    )

    class Meta:
        model = BatchPrediction
        fields = [
            "id",
            "deployment",
            "model",
            "version",
            "dataset",
            "state",
            "rows",
            "results",
            "error",
            "budget",
            "stop_reason",
            "attempt",
            "created_at",
            "started_at",
            "finished_at",
            "cancel_requested_at",
        ]
        read_only_fields = fields

    @extend_schema_field(BatchResultsSerializer(allow_null=True))
    def get_results(self, job: BatchPrediction) -> dict[str, Any] | None:
        return dict(BatchResultsSerializer(job).data) if job.result_sha256 else None

    def get_error(self, job: BatchPrediction) -> str | None:
        return job.error or None

    @extend_schema_field(BudgetSerializer(allow_null=True))
    def get_budget(self, job: BatchPrediction) -> dict[str, Any] | None:
        budget = batch_predictions.budget_of(job)
        return dict(BudgetSerializer(budget).data) if budget else None

    def get_stop_reason(self, job: BatchPrediction) -> str | None:
        return job.stop_reason or None


class NewBatchPrediction(StrictSerializer):
    """What is to be predicted, and by what."""

    deployment = serializers.CharField(max_length=60, help_text="name of a deployment; its version of now is used")
    dataset = serializers.CharField(max_length=80, help_text="id of a sealed data set")
    budget = BudgetField(required=False, help_text="the most that it may cost; it is stopped there, see stop_reason")


class BatchPredictionQuery(PageQuery):
    """The filters of the list."""

    state = serializers.ChoiceField(choices=JobState.choices, required=False, help_text="only those in this state")
    deployment = serializers.CharField(required=False, help_text="only those of the deployment of this name")
    dataset = serializers.CharField(required=False, help_text="only those of the data set of this id")


class BatchPredictionsView(TenantView):
    """The tenant's batch predictions."""

    @extend_schema(
        operation_id="list_batch_predictions",
        tags=TAGS,
        parameters=[BatchPredictionQuery],
        responses=openapi.answers(200, openapi.page_of(BatchPredictionSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's batch predictions, newest first."""
        rows = self.filtered(
            batch_predictions.rows(tenant=self.caller.tenant),
            BatchPredictionQuery,
            state="state",
            deployment="deployment_name",
            dataset="dataset_id",
        )
        return self.page(rows, BatchPredictionSerializer)

    @extend_schema(
        operation_id="create_batch_prediction",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=NewBatchPrediction,
        responses=openapi.answers(201, BatchPredictionSerializer, 400, 409, 429),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Queues a whole data set to be predicted. Follow its `events`, or poll it; then fetch its `results`."""
        job = batch_predictions.create(
            tenant=self.caller.tenant, request=_wanted(self), actor=self.caller.actor, now=timezone.now()
        )  # fmt: skip
        return Response(BatchPredictionSerializer(job).data, status=201)


class BatchQuoteView(TenantView):
    """What a batch prediction would cost."""

    scopes = {"POST": ("read", "manage")}

    @extend_schema(
        operation_id="quote_batch_prediction",
        tags=TAGS,
        request=NewBatchPrediction,
        responses=openapi.answers(200, QuoteSerializer, 400, 409),
    )
    def post(self, request: Request) -> Response:
        """What a batch prediction would cost at most: takes the body that makes one, and makes nothing."""
        found = batch_requests.quote(tenant=self.caller.tenant, request=_wanted(self), now=timezone.now())
        return Response(QuoteSerializer(found).data)


def _wanted(view: TenantView) -> BatchRequest:
    wanted = view.body(NewBatchPrediction)
    return BatchRequest(
        deployment=wanted["deployment"], dataset_id=wanted["dataset"], budget=wanted.get("budget")
    )  # fmt: skip


class BatchPredictionView(TenantView):
    """One batch prediction."""

    @extend_schema(
        operation_id="get_batch_prediction",
        tags=TAGS,
        responses=openapi.answers(200, BatchPredictionSerializer, 400, 404),
    )
    def get(self, request: Request, job_id: str) -> Response:
        """A batch prediction: its state, and how many of its rows are done."""
        self.query(StrictSerializer)
        job = batch_predictions.get(tenant=self.caller.tenant, job_id=job_id)
        return Response(BatchPredictionSerializer(job).data)


class BatchPredictionCancelView(TenantView):
    """Cancelling a batch prediction."""

    @extend_schema(
        operation_id="cancel_batch_prediction",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=None,
        responses=openapi.answers(200, BatchPredictionSerializer, 400, 404, 409) | {202: BatchPredictionSerializer},
    )
    @idempotent
    def post(self, request: Request, job_id: str) -> Response:
        """Ends a job: at once if it waits (200), within two seconds if it runs (202); what is done by then is kept."""
        job = batch_predictions.get(tenant=self.caller.tenant, job_id=job_id)
        job = batch_predictions.cancel(job=job, actor=self.caller.actor, now=timezone.now())
        ended = job.state == JobState.CANCELLED
        return Response(BatchPredictionSerializer(job).data, status=200 if ended else 202)


class BatchPredictionResultsView(TenantView):
    """The results of a batch prediction."""

    @extend_schema(
        operation_id="get_batch_prediction_results",
        tags=TAGS,
        responses={
            key: value for key, value in openapi.answers(200, None, 400, 404, 409).items() if key != 200
        } | {(200, NDJSON): OpenApiTypes.STR},
    )  # fmt: skip
    def get(self, request: Request, job_id: str) -> "ResultsResponse":
        """A JSON object a line and a line a row, in the order of the data set: `item`, and `prediction` or `error`."""
        self.query(StrictSerializer)
        job = batch_predictions.get(tenant=self.caller.tenant, job_id=job_id)
        content = batch_predictions.open_results(job=job)
        return ResultsResponse(content, as_attachment=True, filename=f"{job.pk}.jsonl", content_type=NDJSON)


class ResultsResponse(FileResponse):
    """A file in larger pieces than Django's, each of which is handed from a thread to the event loop."""

    block_size = 256 * 1024
