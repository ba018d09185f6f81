"""Quotas: what is left of them, the tenant's own limits, and its cap on spending."""

from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api import openapi
from tenants.api.pagination import Place, bad_cursor, page_of
from tenants.api.serializers import PageQuery, PlainDecimalField, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.limits import quota_limits, quota_status, spend_caps
from tenants.limits.quota_status import State
from tenants.models import Period, QuotaLimit, QuotaMeter, SetBy, Tenant
from tenants.models.quotas import HIGHEST_LIMIT, SCOPE_LENGTH

SCOPE_HELP = "`tenant`, `key:` and the id of a key, or `deployment:` and the name of a deployment"
SIDES = [(side, side) for side in (quota_limits.PLAN, *SetBy.values)]


class QuotaSerializer(serializers.Serializer[State]):
    scope = serializers.CharField(help_text=SCOPE_HELP, source="limit.scope")
    meter = serializers.ChoiceField(choices=QuotaMeter.choices, source="limit.meter")
    period = serializers.ChoiceField(choices=Period.choices, source="limit.period")
    limit = serializers.IntegerField(source="limit.limit")
    set_by = serializers.ChoiceField(choices=SIDES, source="limit.set_by", help_text="who said the limit that holds")
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField(help_text="the first moment after it")
    used = serializers.IntegerField(help_text="what has arrived in the ledger, seconds after it was used")
    reserved = serializers.IntegerField(help_text="under way, or held by a server for what comes next")
    remaining = serializers.IntegerField()


class QuotaLimitSerializer(serializers.ModelSerializer[QuotaLimit]):
    class Meta:
        model = QuotaLimit
        fields = ["id", "scope", "meter", "period", "limit", "set_by", "created_at"]
        read_only_fields = fields


class PutQuotaLimitSerializer(StrictSerializer):
    scope = serializers.CharField(max_length=SCOPE_LENGTH, help_text=SCOPE_HELP)
    meter = serializers.ChoiceField(
        choices=QuotaMeter.choices,
        default=QuotaMeter.PREDICTIONS,
        help_text="`concurrency`: requests under way at once",
    )
    period = serializers.ChoiceField(choices=Period.choices, help_text="in UTC; `always` for concurrency")
    limit = serializers.IntegerField(min_value=1, max_value=HIGHEST_LIMIT)


class SpendCapSerializer(serializers.Serializer[dict[str, Any]]):
    amount = PlainDecimalField(allow_null=True, help_text="what a month may cost: the lower of the two; null: anything")
    own = PlainDecimalField(allow_null=True, help_text="the cap that you have set")
    operator = PlainDecimalField(allow_null=True, help_text="the cap that the operator has set")
    cost = PlainDecimalField(help_text="what this month has cost so far")
    currency = serializers.CharField(help_text="ISO 4217")
    reached = serializers.BooleanField(help_text="whether predictions and new jobs are refused until it is raised")


class PutSpendCapSerializer(StrictSerializer):
    amount = PlainDecimalField(help_text="a month, in the plan's currency")


class QuotasView(TenantView):
    """The limits that hold."""

    scopes = {"GET": ("read", "billing")}

    @extend_schema(
        operation_id="list_quotas",
        tags=["Quotas"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(QuotaSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """Each limit that holds now, of the plan's, yours and the operator's, and what is left of it."""
        self.query(PageQuery)
        rows = quota_status.states(tenant=self.caller.tenant)

        def fetch(beyond: Place | None, backwards: bool, count: int) -> list[State]:
            ordered = rows[::-1] if backwards else rows
            if beyond is None:
                return ordered[:count]
            if len(beyond) != 3 or not all(isinstance(part, str) for part in beyond):
                raise bad_cursor()
            place = tuple(beyond)
            return [row for row in ordered if (row.limit.address < place if backwards else row.limit.address > place)][
                :count
            ]

        page = page_of(request, place=lambda row: list(row.limit.address), fetch=fetch)
        return page.response(QuotaSerializer, page.rows)


class QuotaLimitsView(TenantView):
    """The limits that were set beside the plan."""

    @extend_schema(
        operation_id="list_quota_limits",
        tags=["Quotas"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(QuotaLimitSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The limits that you and the operator have set beside the plan's, newest first."""
        self.query(PageQuery)
        return self.page(QuotaLimit.objects.for_tenant(self.caller.tenant), QuotaLimitSerializer)

    @extend_schema(
        operation_id="put_quota_limit",
        tags=["Quotas"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=PutQuotaLimitSerializer,
        responses=openapi.answers(201, QuotaLimitSerializer, 400, 409),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Sets a limit for the account, a key or a deployment, or replaces yours there; it may only tighten."""
        wanted = self.body(PutQuotaLimitSerializer)
        row = quota_limits.put(
            tenant=self.caller.tenant, set_by=SetBy.TENANT, actor=self.caller.actor, now=timezone.now(), **wanted
        )  # fmt: skip
        return Response(QuotaLimitSerializer(row).data, status=201)


class QuotaLimitView(TenantView):
    """One limit."""

    @extend_schema(
        operation_id="get_quota_limit", tags=["Quotas"], responses=openapi.answers(200, QuotaLimitSerializer, 404)
    )
    def get(self, request: Request, limit_id: str) -> Response:
        """A limit that you or the operator have set."""
        self.query(StrictSerializer)
        return Response(QuotaLimitSerializer(quota_limits.get(tenant=self.caller.tenant, limit_id=limit_id)).data)

    @extend_schema(operation_id="delete_quota_limit", tags=["Quotas"], responses=openapi.answers(204, None, 404))
    def delete(self, request: Request, limit_id: str) -> Response:
        """Takes a limit of yours away; the plan's and the operator's hold on."""
        limit = quota_limits.get(tenant=self.caller.tenant, limit_id=limit_id)
        quota_limits.remove(limit=limit, side=SetBy.TENANT, actor=self.caller.actor)
        return Response(status=204)


class SpendCapView(TenantView):
    """What a month may cost."""

    scopes = {"GET": ("read", "billing"), "PUT": ("billing",), "DELETE": ("billing",)}

    @extend_schema(operation_id="get_spend_cap", tags=["Quotas"], responses=openapi.answers(200, SpendCapSerializer))
    def get(self, request: Request) -> Response:
        """What a month may cost, and what this one has cost so far."""
        self.query(StrictSerializer)
        return Response(SpendCapSerializer(_spend_cap(self.caller.tenant)).data)

    @extend_schema(
        operation_id="put_spend_cap",
        tags=["Quotas"],
        request=PutSpendCapSerializer,
        responses=openapi.answers(200, SpendCapSerializer, 400),
    )
    def put(self, request: Request) -> Response:
        """Sets what a month may cost: when it is reached, predictions and new jobs are refused with 429."""
        wanted = self.body(PutSpendCapSerializer)
        tenant = self.caller.tenant
        spend_caps.put(tenant=tenant, amount=wanted["amount"], set_by=SetBy.TENANT, actor=self.caller.actor)
        return Response(SpendCapSerializer(_spend_cap(tenant)).data)

    @extend_schema(operation_id="delete_spend_cap", tags=["Quotas"], responses=openapi.answers(204, None, 404))
    def delete(self, request: Request) -> Response:
        """Takes your cap away; the operator's holds on."""
        spend_caps.remove(tenant=self.caller.tenant, set_by=SetBy.TENANT, actor=self.caller.actor)
        return Response(status=204)


def _spend_cap(tenant: Tenant) -> dict[str, Any]:
    caps = spend_caps.amounts(tenant=tenant)
    lowest: Decimal | None = min(caps.values(), default=None)
    cost = spend_caps.cost_so_far(tenant=tenant, now=timezone.now())
    return {
        "amount": lowest,
        "own": caps.get(SetBy.TENANT),
        "operator": caps.get(SetBy.OPERATOR),
        "cost": cost,
        "currency": tenant.plan.currency,
        "reached": lowest is not None and cost >= lowest,
    }
