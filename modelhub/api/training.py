"""Training jobs over HTTP."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import training, training_requests
from modelhub.api import svg
from modelhub.models import JobState, TrainingJob, TrainingLogLine
from modelhub.training_requests import Request as TrainingRequest
from tenants.api import openapi
from tenants.api.quotes import BudgetField, BudgetSerializer, QuoteSerializer
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent

TAGS = ["Training"]


class TrainingProgressSerializer(serializers.Serializer[Any]):
    """How far a job is; empty while it waits."""

    phase = serializers.CharField(
        required=False, help_text="starting, decoding, training, evaluating, converting, checking, or a recipe's own"
    )
    done = serializers.IntegerField(required=False, help_text="of `total`: items, or steps of the epoch")
    total = serializers.IntegerField(required=False)
    epoch = serializers.IntegerField(required=False)
    epochs = serializers.IntegerField(required=False)
    split = serializers.CharField(required=False, help_text="which split is being read")
    seconds_left = serializers.IntegerField(
        required=False, help_text="until the version is there at the pace so far, if no epoch is left out"
    )


EPOCH_SCHEMA = {
    "type": "object",
    "description": "What an epoch came to: these, and the recipe's own; those named val_… are of the validation split.",
    "properties": {
        "epoch": {"type": "integer"},
        "loss": {"type": "number", "nullable": True},
        "val_loss": {"type": "number", "nullable": True},
        "seconds": {"type": "number", "description": "of training, without validation"},
        "rows_per_second": {"type": "number"},
    },
    "required": ["epoch", "loss", "seconds", "rows_per_second"],
    "additionalProperties": {"type": "number", "nullable": True},
}


@extend_schema_field({"type": "array", "items": EPOCH_SCHEMA})
class EpochsField(serializers.ListField):
    """The metrics of each epoch, as the trainer wrote them down."""

    child = serializers.DictField()


class VersionMadeSerializer(serializers.Serializer[Any]):
    """The version that a job made."""

    id = serializers.CharField()
    number = serializers.IntegerField()


class TrainingJobSerializer(serializers.ModelSerializer[TrainingJob]):
    """A training job."""

    dataset = serializers.CharField(source="dataset_id", help_text="id of the data set")
    model = serializers.CharField(source="model_name", help_text="name of the model that gets a new version")
    parameters = serializers.DictField(help_text="the recipe's parameters, those left out by their defaults")
    progress = TrainingProgressSerializer()
    metrics = EpochsField(source="history", help_text="one entry an epoch")
    error = serializers.SerializerMethodField(help_text="why it failed, in words; null if it did not")
    budget = serializers.SerializerMethodField(help_text="the most that it may cost; null if that was left open")
    stop_reason = serializers.SerializerMethodField(
        help_text="why it learned less than was asked for, in words; null if it did not"
    )
    search = serializers.CharField(source="search_id", allow_null=True, help_text="id of the search that tries it")
    version = serializers.SerializerMethodField(help_text="the version that it made; null while there is none")
    warm_start = serializers.CharField(
        source="warm_start_id", allow_null=True, help_text="id of the version whose weights it begins with"
    )
    training_seconds = serializers.SerializerMethodField(
        help_text="how long its process ran; billed if it succeeded or was cancelled"
    )

    class Meta:
        model = TrainingJob
        fields = [
            "id",
            "dataset",
            "model",
            "recipe",
            "parameters",
            "state",
            "progress",
            "metrics",
            "error",
            "budget",
            "stop_reason",
            "search",
            "version",
            "warm_start",
            "attempt",
            "training_seconds",
            "created_at",
            "started_at",
            "finished_at",
            "cancel_requested_at",
            "keep_best",
        ]
        read_only_fields = fields

    def get_error(self, job: TrainingJob) -> str | None:
        return job.error or None

    @extend_schema_field(BudgetSerializer(allow_null=True))
    def get_budget(self, job: TrainingJob) -> dict[str, Any] | None:
        budget = training.budget_of(job)
        return dict(BudgetSerializer(budget).data) if budget else None

    def get_stop_reason(self, job: TrainingJob) -> str | None:
        return job.stop_reason or None

    @extend_schema_field(VersionMadeSerializer(allow_null=True))
    def get_version(self, job: TrainingJob) -> dict[str, Any] | None:
        version_id = getattr(job, "version_id", None)
        return {"id": version_id, "number": job.version_number} if version_id else None  # type: ignore[attr-defined]

    def get_training_seconds(self, job: TrainingJob) -> float | None:
        return None if job.training_seconds is None else float(job.training_seconds)


class NewTrainingJob(StrictSerializer):
    """What a training is to make, and of what."""

    dataset = serializers.CharField(max_length=80, help_text="id of a sealed data set")
    model = serializers.CharField(max_length=200, help_text="name of the model; it is made with its first version")
    recipe = serializers.CharField(max_length=80, help_text="name of a recipe, see /api/v1/recipes")
    parameters = serializers.DictField(required=False, default=dict, help_text="of the recipe; all may be left out")
    budget = BudgetField(required=False, help_text="the most that it may cost; it is stopped in time, see stop_reason")
    warm_start = serializers.CharField(
        required=False, max_length=80, help_text="id of a version of the same recipe, whose weights to begin with"
    )


class CancelTrainingJob(StrictSerializer):
    """How a job is to end."""

    keep_best = serializers.BooleanField(
        required=False, default=False, help_text="whether to make a version of the best that it has learned so far"
    )


class RetrainTrainingJob(StrictSerializer):
    """What is to be otherwise the next time."""

    dataset = serializers.CharField(
        required=False, default="", max_length=80, help_text="id of a sealed data set; left out, the same"
    )
    warm_start = serializers.BooleanField(
        required=False, default=False, help_text="whether to begin with the weights of the version that the job made"
    )
    budget = BudgetField(required=False, help_text="the most that the new one may cost; the old one's is not kept")


class TrainingJobQuery(PageQuery):
    """The filters of the list."""

    state = serializers.ChoiceField(choices=JobState.choices, required=False, help_text="only those in this state")
    model = serializers.CharField(required=False, help_text="only those that train the model of this name")
    dataset = serializers.CharField(required=False, help_text="only those that learn from the data set of this id")


class LogQuery(StrictSerializer):
    """Which part of a log."""

    after = serializers.IntegerField(required=False, default=0, min_value=0, help_text="only lines after this number")
    limit = serializers.IntegerField(required=False, default=200, min_value=1, max_value=1000)


class LogLineSerializer(serializers.ModelSerializer[TrainingLogLine]):
    class Meta:
        model = TrainingLogLine
        fields = ["number", "at", "text"]
        read_only_fields = fields


class TrainingJobsView(TenantView):
    """The tenant's training jobs."""

    @extend_schema(
        operation_id="list_training_jobs",
        tags=TAGS,
        parameters=[TrainingJobQuery],
        responses=openapi.answers(200, openapi.page_of(TrainingJobSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's jobs, newest first."""
        rows = self.filtered(
            training.rows(tenant=self.caller.tenant),
            TrainingJobQuery,
            state="state",
            model="model_name",
            dataset="dataset_id",
        )
        return self.page(rows, TrainingJobSerializer)

    @extend_schema(
        operation_id="create_training_job",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=NewTrainingJob,
        responses=openapi.answers(201, TrainingJobSerializer, 400, 409, 429),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Queues a training. Poll the job: its progress and metrics are there while it runs."""
        job = training.create(
            tenant=self.caller.tenant, request=_wanted(self), actor=self.caller.actor, now=timezone.now()
        )  # fmt: skip
        return Response(TrainingJobSerializer(job).data, status=201)


class TrainingQuoteView(TenantView):
    """What a training would cost."""

    scopes = {"POST": ("read", "manage")}

    @extend_schema(
        operation_id="quote_training_job",
        tags=TAGS,
        request=NewTrainingJob,
        responses=openapi.answers(200, QuoteSerializer, 400, 409),
    )
    def post(self, request: Request) -> Response:
        """What a training would cost at most: takes the body that makes one, and makes nothing."""
        found = training_requests.quote(tenant=self.caller.tenant, request=_wanted(self), now=timezone.now())
        return Response(QuoteSerializer(found).data)


def _wanted(view: TenantView) -> TrainingRequest:
    wanted = view.body(NewTrainingJob)
    return TrainingRequest(
        dataset_id=wanted["dataset"],
        model_name=wanted["model"],
        recipe_name=wanted["recipe"],
        parameters=wanted["parameters"],
        budget=wanted.get("budget"),
        warm_start=wanted.get("warm_start", ""),
    )


class TrainingJobView(TenantView):
    """One job."""

    @extend_schema(
        operation_id="get_training_job", tags=TAGS, responses=openapi.answers(200, TrainingJobSerializer, 400, 404)
    )
    def get(self, request: Request, job_id: str) -> Response:
        """A job: its state, its progress, the metrics of each epoch, and the version that it made."""
        self.query(StrictSerializer)
        return Response(TrainingJobSerializer(training.get(tenant=self.caller.tenant, job_id=job_id)).data)


class TrainingJobCancelView(TenantView):
    """Cancelling a job."""

    @extend_schema(
        operation_id="cancel_training_job",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=CancelTrainingJob,
        responses=openapi.answers(200, TrainingJobSerializer, 400, 404, 409) | {202: TrainingJobSerializer},
    )
    @idempotent
    def post(self, request: Request, job_id: str) -> Response:
        """Ends a job: at once if it waits (200), within two seconds if it runs (202), or with the best so far."""
        wanted = self.body(CancelTrainingJob)
        job = training.get(tenant=self.caller.tenant, job_id=job_id)
        job = training.cancel(
            job=job, actor=self.caller.actor, now=timezone.now(), keep_best=wanted["keep_best"]
        )  # fmt: skip
        ended = job.state == JobState.CANCELLED
        return Response(TrainingJobSerializer(job).data, status=200 if ended else 202)


class TrainingJobCurvesView(TenantView):
    """The learning curves of a job, drawn."""

    @extend_schema(
        operation_id="draw_training_job_curves", tags=TAGS, responses=openapi.file_answers(svg.CONTENT_TYPE, 400, 404)
    )
    def get(self, request: Request, job_id: str) -> HttpResponse:
        """The metrics of a job over its epochs so far, as SVG: of training, and of validation."""
        self.query(StrictSerializer)
        job = training.get(tenant=self.caller.tenant, job_id=job_id)
        return svg.response(training.curves(job))


class TrainingJobRetrainView(TenantView):
    """Training again."""

    @extend_schema(
        operation_id="retrain_training_job",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=RetrainTrainingJob,
        responses=openapi.answers(201, TrainingJobSerializer, 400, 404, 409, 429),
    )
    @idempotent
    def post(self, request: Request, job_id: str) -> Response:
        """Queues a training like an earlier one, with the same recipe, parameters and model, on another data set."""
        wanted = self.body(RetrainTrainingJob)
        tenant = self.caller.tenant
        again = training_requests.again(
            tenant=tenant,
            job=training.get(tenant=tenant, job_id=job_id),
            dataset_id=wanted["dataset"],
            warm=wanted["warm_start"],
            budget=wanted.get("budget"),
        )
        job = training.create(tenant=tenant, request=again, actor=self.caller.actor, now=timezone.now())
        return Response(TrainingJobSerializer(job).data, status=201)


class TrainingJobLogsView(TenantView):
    """The log of a job."""

    @extend_schema(
        operation_id="list_training_job_logs",
        tags=TAGS,
        parameters=[LogQuery],
        responses=openapi.answers(
            200,
            inline_serializer(
                "TrainingLogPage",
                {
                    "next": serializers.URLField(allow_null=True, help_text="the lines after these, if there are some"),
                    "results": LogLineSerializer(many=True),
                },
            ),
            400,
            404,
        ),
    )
    def get(self, request: Request, job_id: str) -> Response:
        """What the training printed, oldest first; to follow it, ask again with `after` the last number seen."""
        query = self.query(LogQuery)
        job = training.get(tenant=self.caller.tenant, job_id=job_id)
        lines = training.log_lines(job=job, after=query["after"], limit=query["limit"] + 1)
        shown, more = lines[: query["limit"]], len(lines) > query["limit"]
        following = f"{request.path}?after={shown[-1].number}&limit={query['limit']}" if more else None
        return Response(
            {
                "next": following and request.build_absolute_uri(following),
                "results": LogLineSerializer(shown, many=True).data,
            }
        )
