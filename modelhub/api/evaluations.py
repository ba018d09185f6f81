"""Evaluations of model versions over HTTP."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import charts, evaluations, job_costs
from modelhub.api import svg
from modelhub.evaluations import Request as EvaluationRequest
from modelhub.models import EvaluatedSplit, Evaluation, JobState
from tenants.api import openapi
from tenants.api.quotes import BudgetField, BudgetSerializer, QuoteSerializer
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.errors import NotFound

TAGS = ["Evaluations"]


class GroupsSerializer(serializers.Serializer[Any]):
    """The metrics of each group of a slice."""

    groups = serializers.DictField(child=serializers.DictField(), help_text="by the value that its rows have")
    groups_left_out = serializers.IntegerField(help_text="only the largest groups are measured")
    rows_without = serializers.IntegerField(help_text="rows that have no such value")


# `from` is a word of Python's own, so that no class can have it as an attribute.
RELIABILITY_BIN = inline_serializer(
    "ReliabilityBin",
    {
        "from": serializers.FloatField(help_text="of how sure the version was"),
        "to": serializers.FloatField(),
        "rows": serializers.IntegerField(),
        "confidence": serializers.FloatField(allow_null=True, help_text="how sure it was on average"),
        "accuracy": serializers.FloatField(allow_null=True, help_text="how often it was right"),
    },
    many=True,
)


class CalibrationSerializer(serializers.Serializer[Any]):
    """Whether probabilities mean what they say."""

    rows = serializers.IntegerField()
    ece = serializers.FloatField(allow_null=True, help_text="expected calibration error: 0 is best, 1 is worst")
    bins = RELIABILITY_BIN


class ThresholdSerializer(serializers.Serializer[Any]):
    """What a threshold makes of the rows."""

    threshold = serializers.FloatField()
    precision = serializers.FloatField(allow_null=True)
    recall = serializers.FloatField(allow_null=True)
    f1 = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(allow_null=True)


class ThresholdsSerializer(serializers.Serializer[Any]):
    """The choice of a threshold, of two classes."""

    positive = serializers.CharField(help_text="the class that is answered from the threshold on")
    table = ThresholdSerializer(many=True)
    best = ThresholdSerializer(allow_null=True, help_text="the one of the highest F1")


class LeftOutSerializer(serializers.Serializer[Any]):
    """Rows that the version refused."""

    rows = serializers.IntegerField()
    first = serializers.ListField(child=serializers.DictField(), help_text="the first hundred: name and problem")


class TimingSerializer(serializers.Serializer[Any]):
    """How long answering took."""

    rows = serializers.IntegerField()
    seconds = serializers.FloatField()


class EvaluationResultSerializer(serializers.Serializer[Any]):
    """What an evaluation found."""

    rows = serializers.IntegerField(help_text="rows that were answered")
    metrics = serializers.DictField(help_text="over all rows, as the recipe measures: the same as at training")
    slices = serializers.DictField(child=GroupsSerializer(), help_text="by the names that were asked for")
    calibration = CalibrationSerializer(allow_null=True, help_text="of versions that answer with a class")
    thresholds = ThresholdsSerializer(allow_null=True, help_text="of versions of two classes")
    left_out = LeftOutSerializer()
    timing = TimingSerializer()


class EvaluationSerializer(serializers.ModelSerializer[Evaluation]):
    """An evaluation."""

    model = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number")
    dataset = serializers.CharField(source="dataset_id", help_text="id of the data set")
    slices = serializers.ListField(child=serializers.CharField())
    progress = serializers.DictField(help_text="phase, done and total; empty while it waits")
    result = serializers.SerializerMethodField(help_text="null until it has succeeded")
    mistakes = serializers.SerializerMethodField(
        help_text="the rows that it got most wrong: name, truth, answer, and confidence, wrong_words or difference"
    )
    error = serializers.SerializerMethodField(help_text="why it failed, in words; null if it did not")
    budget = serializers.SerializerMethodField(help_text="the most that it may cost; null if that was left open")
    training_seconds = serializers.SerializerMethodField(
        help_text="how long its process ran; billed if it succeeded or was cancelled"
    )

    class Meta:
        model = Evaluation
        fields = [
            "id",
            "model",
            "version",
            "dataset",
            "split",
            "slices",
            "state",
            "progress",
            "result",
            "mistakes",
            "error",
            "budget",
            "attempt",
            "training_seconds",
            "created_at",
            "started_at",
            "finished_at",
            "cancel_requested_at",
        ]
        read_only_fields = fields

    @extend_schema_field(EvaluationResultSerializer(allow_null=True))
    def get_result(self, evaluation: Evaluation) -> dict[str, Any] | None:
        result: dict[str, Any] | None = evaluation.result
        return result

    @extend_schema_field(serializers.ListField(child=serializers.DictField()))
    def get_mistakes(self, evaluation: Evaluation) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name != "picture"} for row in evaluation.mistakes]

    def get_error(self, evaluation: Evaluation) -> str | None:
        return evaluation.error or None

    @extend_schema_field(BudgetSerializer(allow_null=True))
    def get_budget(self, evaluation: Evaluation) -> dict[str, Any] | None:
        budget = job_costs.budget_of(evaluation)
        return dict(BudgetSerializer(budget).data) if budget else None

    def get_training_seconds(self, evaluation: Evaluation) -> float | None:
        return None if evaluation.training_seconds is None else float(evaluation.training_seconds)


class NewEvaluation(StrictSerializer):
    """What is to be evaluated, and on what."""

    model = serializers.CharField(max_length=60, help_text="name of a model")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="number of its version")
    dataset = serializers.CharField(max_length=80, help_text="id of a sealed data set of the kind that it takes")
    split = serializers.ChoiceField(choices=EvaluatedSplit.choices, default=EvaluatedSplit.VALIDATION)
    slices = serializers.ListField(
        child=serializers.CharField(max_length=80),
        required=False,
        default=list,
        help_text="what to group rows by besides: class, folder, speaker, or the name of a column",
    )
    budget = BudgetField(required=False, help_text="the most that it may cost; it fails there, and is not billed")


class EvaluationQuery(PageQuery):
    """The filters of the list."""

    state = serializers.ChoiceField(choices=JobState.choices, required=False, help_text="only those in this state")
    model = serializers.CharField(required=False, help_text="only those of versions of the model of this name")
    dataset = serializers.CharField(required=False, help_text="only those on the data set of this id")


class EvaluationsView(TenantView):
    """The tenant's evaluations."""

    @extend_schema(
        operation_id="list_evaluations",
        tags=TAGS,
        parameters=[EvaluationQuery],
        responses=openapi.answers(200, openapi.page_of(EvaluationSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's evaluations, newest first."""
        rows = self.filtered(
            evaluations.rows(tenant=self.caller.tenant),
            EvaluationQuery,
            state="state",
            model="version__model__name",
            dataset="dataset_id",
        )
        return self.page(rows, EvaluationSerializer)

    @extend_schema(
        operation_id="create_evaluation",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=NewEvaluation,
        responses=openapi.answers(201, EvaluationSerializer, 400, 409, 429),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Queues an evaluation of a version on a sealed data set, also on one that it did not learn from."""
        evaluation = evaluations.create(
            tenant=self.caller.tenant, request=_wanted(self), actor=self.caller.actor, now=timezone.now()
        )
        return Response(EvaluationSerializer(evaluation).data, status=201)


class EvaluationQuoteView(TenantView):
    """What an evaluation would cost."""

    scopes = {"POST": ("read", "manage")}

    @extend_schema(
        operation_id="quote_evaluation",
        tags=TAGS,
        request=NewEvaluation,
        responses=openapi.answers(200, QuoteSerializer, 400, 409),
    )
    def post(self, request: Request) -> Response:
        """What an evaluation would cost at most: takes the body that makes one, and makes nothing."""
        found = evaluations.quote(tenant=self.caller.tenant, request=_wanted(self), now=timezone.now())
        return Response(QuoteSerializer(found).data)


class EvaluationView(TenantView):
    """One evaluation."""

    @extend_schema(
        operation_id="get_evaluation", tags=TAGS, responses=openapi.answers(200, EvaluationSerializer, 400, 404)
    )
    def get(self, request: Request, evaluation_id: str) -> Response:
        """An evaluation: its state, its progress, and what it found."""
        self.query(StrictSerializer)
        found = evaluations.get(tenant=self.caller.tenant, evaluation_id=evaluation_id)
        return Response(EvaluationSerializer(found).data)


class EvaluationCancelView(TenantView):
    """Cancelling an evaluation."""

    @extend_schema(
        operation_id="cancel_evaluation",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=None,
        responses=openapi.answers(200, EvaluationSerializer, 400, 404, 409) | {202: EvaluationSerializer},
    )
    @idempotent
    def post(self, request: Request, evaluation_id: str) -> Response:
        """Ends an evaluation: at once if it waits (200), within two seconds if it runs (202)."""
        evaluation = evaluations.get(tenant=self.caller.tenant, evaluation_id=evaluation_id)
        evaluation = evaluations.cancel(evaluation=evaluation, actor=self.caller.actor, now=timezone.now())
        ended = evaluation.state == JobState.CANCELLED
        return Response(EvaluationSerializer(evaluation).data, status=200 if ended else 202)


DRAWINGS = {"confusion": "its confusion matrix", "reliability": "its calibration", "mistakes": "what it got most wrong"}


class EvaluationDrawingView(TenantView):
    """What an evaluation found, drawn."""

    @extend_schema(
        operation_id="draw_evaluation",
        tags=TAGS,
        parameters=[OpenApiParameter("drawing", str, OpenApiParameter.PATH, enum=list(DRAWINGS))],
        responses=openapi.file_answers(svg.CONTENT_TYPE, 400, 404),
    )
    def get(self, request: Request, evaluation_id: str, drawing: str) -> HttpResponse:
        """What an evaluation found, as SVG: its `confusion` matrix, its `reliability`, or its `mistakes`."""
        self.query(StrictSerializer)
        found = evaluations.get(tenant=self.caller.tenant, evaluation_id=evaluation_id)
        return svg.response(drawn(found, drawing))


def drawn(evaluation: Evaluation, drawing: str) -> str:
    """One of the drawings of an evaluation as SVG; raises NotFound where there is nothing of the kind to draw."""
    if drawing not in DRAWINGS:
        raise NotFound("There is nothing at this address.")
    result = evaluation.result or {}
    title = f"{evaluation.version} on {evaluation.dataset_id}, {evaluation.split}"
    if drawing == "mistakes" and result:
        return charts.mistakes(evaluation.mistakes, title=title)
    if drawing == "confusion" and "confusion_matrix" in result.get("metrics", {}):
        return charts.confusion(result["metrics"]["confusion_matrix"], title=title)
    if drawing == "reliability" and result.get("calibration"):
        return charts.reliability(result["calibration"], title=title)
    raise NotFound(
        f"The evaluation {evaluation.pk} has not found {DRAWINGS[drawing]}: its state is {evaluation.state}."
    )


def _wanted(view: TenantView) -> EvaluationRequest:
    wanted = view.body(NewEvaluation)
    return EvaluationRequest(
        model_name=wanted["model"],
        number=wanted["version"],
        dataset_id=wanted["dataset"],
        split=wanted["split"],
        slices=wanted["slices"],
        budget=wanted.get("budget"),
    )
