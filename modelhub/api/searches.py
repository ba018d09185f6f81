"""Searches for good parameters over HTTP."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub import searches
from modelhub.models import JobState, Search, SearchMethod
from modelhub.searches import Request as SearchRequest
from modelhub.searches import Standing
from tenants.api import openapi
from tenants.api.quotes import BudgetField, BudgetSerializer, QuoteSerializer
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent

TAGS = ["Training"]


class SearchJobSerializer(serializers.Serializer[Any]):
    """One of the trainings of a search; GET the training job for the rest."""

    id = serializers.CharField()
    state = serializers.ChoiceField(choices=JobState.choices)
    parameters = serializers.DictField(help_text="those that the search tries")
    version = serializers.IntegerField(allow_null=True, help_text="number of the version that it made")


class BestSerializer(serializers.Serializer[Any]):
    """The best of the trainings that made a version, by the best epoch of each."""

    job = serializers.CharField()
    version = serializers.IntegerField(allow_null=True)
    version_id = serializers.CharField(allow_null=True)
    metric = serializers.CharField(help_text="the metric that the recipe watches, on the validation split")
    value = serializers.FloatField()
    higher_is_better = serializers.BooleanField()
    parameters = serializers.DictField(help_text="those that the search tries")


class SearchSerializer(serializers.ModelSerializer[Search]):
    """A search."""

    dataset = serializers.CharField(source="dataset_id", help_text="id of the data set")
    model = serializers.CharField(source="model_name", help_text="name of the model that gets a version a training")
    parameters = serializers.DictField(help_text="what all of its trainings have in common")
    space = serializers.DictField(help_text="what each of the others may be")
    budget = serializers.SerializerMethodField(help_text="for all trainings together; null if that was left open")
    state = serializers.SerializerMethodField(help_text="succeeded, if one of its trainings did and all have ended")
    counts = serializers.SerializerMethodField(help_text="how many trainings are in each state")
    jobs = serializers.SerializerMethodField()
    best = serializers.SerializerMethodField(help_text="the best so far; null until a training has made a version")

    class Meta:
        model = Search
        fields = [
            "id",
            "dataset",
            "model",
            "recipe",
            "parameters",
            "space",
            "method",
            "seed",
            "budget",
            "state",
            "counts",
            "jobs",
            "best",
            "created_at",
            "cancel_requested_at",
        ]
        read_only_fields = fields

    def _standing(self, search: Search) -> Standing:
        found: Standing = self.context["standings"][search.pk]
        return found

    @extend_schema_field(BudgetSerializer(allow_null=True))
    def get_budget(self, search: Search) -> dict[str, Any] | None:
        budget = searches.budget_of(search)
        return dict(BudgetSerializer(budget).data) if budget else None

    @extend_schema_field(serializers.ChoiceField(choices=JobState.choices))
    def get_state(self, search: Search) -> str:
        return self._standing(search).state

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_counts(self, search: Search) -> dict[str, int]:
        return self._standing(search).counts

    @extend_schema_field(SearchJobSerializer(many=True))
    def get_jobs(self, search: Search) -> list[dict[str, Any]]:
        return [
            {
                "id": job.pk,
                "state": job.state,
                "parameters": _tried(search, job.parameters),
                "version": getattr(job, "version_number", None),
            }
            for job in self._standing(search).jobs
        ]

    @extend_schema_field(BestSerializer(allow_null=True))
    def get_best(self, search: Search) -> dict[str, Any] | None:
        best = self._standing(search).best
        if best is None:
            return None
        return {
            "job": best.job.pk,
            "version": getattr(best.job, "version_number", None),
            "version_id": getattr(best.job, "version_id", None),
            "metric": best.metric,
            "value": best.value,
            "higher_is_better": best.higher_is_better,
            "parameters": _tried(search, best.job.parameters),
        }


class NewSearch(StrictSerializer):
    """What is to be tried."""

    dataset = serializers.CharField(max_length=80, help_text="id of a sealed data set")
    model = serializers.CharField(max_length=80, help_text="name of the model that gets a version a training")
    recipe = serializers.CharField(max_length=80)
    parameters = serializers.DictField(required=False, default=dict, help_text="what all trainings have in common")
    space = serializers.DictField(
        help_text='for each parameter that differs its values, or of a random search its range: {"from", "to", "log"}'
    )
    method = serializers.ChoiceField(
        choices=SearchMethod.choices, default=SearchMethod.GRID, help_text="every combination, or so many drawn ones"
    )
    jobs = serializers.IntegerField(
        required=False, min_value=1, max_value=10_000, help_text="how many trainings; of a grid the most that may be"
    )
    seed = serializers.IntegerField(required=False, default=0, min_value=0, max_value=2**31 - 1)
    budget = BudgetField(required=False, help_text="for all trainings together; each gets an equal part")


class SearchesView(TenantView):
    """The tenant's searches."""

    @extend_schema(
        operation_id="list_searches",
        tags=TAGS,
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(SearchSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's searches, newest first."""
        self.query(PageQuery)
        paginator = self.pagination_class()
        found = paginator.paginate_queryset(searches.rows(tenant=self.caller.tenant), request, view=self)
        return paginator.get_paginated_response(_shown(found or []))

    @extend_schema(
        operation_id="create_search",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=NewSearch,
        responses=openapi.answers(201, SearchSerializer, 400, 409, 429),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Queues the trainings of a search: ordinary training jobs, each of which makes a version of the model."""
        search = searches.create(
            tenant=self.caller.tenant, request=_wanted(self), actor=self.caller.actor, now=timezone.now()
        )  # fmt: skip
        return Response(_shown([search])[0], status=201)


class SearchQuoteView(TenantView):
    """What a search would cost."""

    scopes = {"POST": ("read", "manage")}

    @extend_schema(
        operation_id="quote_search",
        tags=TAGS,
        request=NewSearch,
        responses=openapi.answers(200, QuoteSerializer, 400, 409),
    )
    def post(self, request: Request) -> Response:
        """What all trainings of a search would cost at most: takes the body that makes one, and makes nothing."""
        found = searches.quote(tenant=self.caller.tenant, request=_wanted(self), now=timezone.now())
        return Response(QuoteSerializer(found).data)


class SearchView(TenantView):
    """One search."""

    @extend_schema(operation_id="get_search", tags=TAGS, responses=openapi.answers(200, SearchSerializer, 400, 404))
    def get(self, request: Request, search_id: str) -> Response:
        """A search: how far it is, its trainings, and the best of them."""
        self.query(StrictSerializer)
        return Response(_shown([searches.get(tenant=self.caller.tenant, search_id=search_id)])[0])


class SearchCancelView(TenantView):
    """Cancelling a search."""

    @extend_schema(
        operation_id="cancel_search",
        tags=TAGS,
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=None,
        responses=openapi.answers(200, SearchSerializer, 400, 404, 409) | {202: SearchSerializer},
    )
    @idempotent
    def post(self, request: Request, search_id: str) -> Response:
        """Cancels all trainings under way: those that wait at once (200), one that runs within two seconds (202)."""
        search = searches.get(tenant=self.caller.tenant, search_id=search_id)
        search = searches.cancel(search=search, actor=self.caller.actor, now=timezone.now())
        shown = _shown([search])[0]
        return Response(shown, status=202 if shown["state"] == JobState.RUNNING else 200)


def _shown(found: list[Search]) -> list[dict[str, Any]]:
    context = {"standings": searches.standings(found)}
    rows: list[dict[str, Any]] = SearchSerializer(found, many=True, context=context).data  # type: ignore[assignment]
    return rows


def _tried(search: Search, parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: parameters.get(name) for name in search.space}


def _wanted(view: TenantView) -> SearchRequest:
    wanted = view.body(NewSearch)
    return SearchRequest(
        dataset_id=wanted["dataset"],
        model_name=wanted["model"],
        recipe_name=wanted["recipe"],
        parameters=wanted["parameters"],
        space=wanted["space"],
        method=wanted["method"],
        jobs=wanted.get("jobs"),
        seed=wanted["seed"],
        budget=wanted.get("budget"),
    )
