"""Webhook endpoints, and the deliveries to them with their log."""

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import notices
from tenants.api import openapi
from tenants.api.serializers import PageQuery, StrictSerializer
from tenants.api.views import TenantView, idempotent
from tenants.models import DeliveryState, Disabled, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tenants.models.webhooks import URL_LENGTH
from tenants.webhooks import deliveries, endpoints
from tenants.webhooks.endpoints import NewSecret

GRACE_SECONDS = int(endpoints.GRACE.total_seconds())
LONGEST_GRACE_SECONDS = int(endpoints.LONGEST_GRACE.total_seconds())
EVERY_KIND = (*notices.KINDS, endpoints.TEST_KIND)


class WebhookEndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    kinds = serializers.ListField(child=serializers.ChoiceField(choices=notices.KINDS))
    active = serializers.BooleanField(help_text="whether it is sent to")
    disabled = serializers.CharField(help_text=f"why not: {', '.join(Disabled.values)}; empty if it is")

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id", "url", "description", "kinds", "active", "disabled", "failing_since", "previous_until", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class NewWebhookEndpointSerializer(WebhookEndpointSerializer):
    secret = serializers.CharField(
        allow_null=True,
        help_text="What signs the messages: shown here and never again; null where a retry gets this answer.",
    )

    class Meta(WebhookEndpointSerializer.Meta):
        fields = [*WebhookEndpointSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class CreateWebhookEndpointSerializer(StrictSerializer):
    url = serializers.CharField(max_length=URL_LENGTH, help_text="https, at a public address")
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=notices.KINDS), allow_empty=False, help_text="what is told there"
    )
    description = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)


class ChangeWebhookEndpointSerializer(StrictSerializer):
    url = serializers.CharField(required=False, max_length=URL_LENGTH)
    kinds = serializers.ListField(
        required=False, child=serializers.ChoiceField(choices=notices.KINDS), allow_empty=False
    )  # fmt: skip
    description = serializers.CharField(required=False, allow_blank=True, max_length=200)
    active = serializers.BooleanField(required=False, help_text="false: what is due waits; true: it is sent")


class RotateSecretSerializer(StrictSerializer):
    grace_seconds = serializers.IntegerField(
        required=False,
        default=GRACE_SECONDS,
        min_value=0,
        max_value=LONGEST_GRACE_SECONDS,
        help_text="how long messages are signed with the secret before, too",
    )


class ReplaySinceSerializer(StrictSerializer):
    since = serializers.DateTimeField(help_text="what happened from then on; ISO 8601")
    delivered_too = serializers.BooleanField(required=False, default=False, help_text="also what was taken already")


class ReplayedSerializer(serializers.Serializer[Any]):
    deliveries = serializers.IntegerField(help_text="how many are sent (again)")


class WebhookDeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    endpoint = serializers.CharField(source="endpoint_id")
    message = serializers.CharField(source="notice_id", help_text="`webhook-id`: the same at each try")
    kind = serializers.ChoiceField(source="notice.kind", choices=EVERY_KIND)
    data = serializers.DictField(source="notice.data")  # type: ignore[assignment]
    happened_at = serializers.DateTimeField(source="notice.created_at")

    class Meta:
        model = WebhookDelivery
        fields = [
            "id", "endpoint", "message", "kind", "data", "happened_at", "state", "tries", "next_at", "created_at",
            "ended_at",
        ]  # fmt: skip
        read_only_fields = fields


class WebhookAttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    class Meta:
        model = WebhookAttempt
        fields = ["at", "duration_ms", "status", "error", "answer"]
        read_only_fields = fields


class WebhookDeliveryQuery(PageQuery):
    endpoint = serializers.CharField(required=False, help_text="only to the endpoint with this id")
    kind = serializers.ChoiceField(required=False, choices=EVERY_KIND)
    state = serializers.ChoiceField(required=False, choices=DeliveryState.choices)


class SecretView(TenantView):
    """A view whose answers hold a secret."""

    def shown(self, new: NewSecret, status: int) -> Response:
        return Response({**WebhookEndpointSerializer(new.row).data, "secret": new.secret}, status=status)

    def without_secrets(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "secret": None}


class WebhookEndpointsView(SecretView):
    """The tenant's endpoints."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="list_webhook_endpoints",
        tags=["Webhooks"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(WebhookEndpointSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's webhook endpoints, newest first; never their secrets."""
        self.query(PageQuery)
        return self.page(WebhookEndpoint.objects.for_tenant(self.caller.tenant), WebhookEndpointSerializer)

    @extend_schema(
        operation_id="create_webhook_endpoint",
        tags=["Webhooks"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=CreateWebhookEndpointSerializer,
        responses=openapi.answers(201, NewWebhookEndpointSerializer, 400, 409),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Registers a URL for some kinds of notices. This answer is the only one that shows its secret."""
        wanted = self.body(CreateWebhookEndpointSerializer)
        new = endpoints.create(tenant=self.caller.tenant, **wanted, actor=self.caller.actor, now=timezone.now())
        return self.shown(new, 201)


class EndpointView(SecretView):
    """A view of one endpoint."""

    def endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        return endpoints.get(tenant=self.caller.tenant, endpoint_id=endpoint_id)


class WebhookEndpointView(EndpointView):
    """One endpoint."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="get_webhook_endpoint",
        tags=["Webhooks"],
        responses=openapi.answers(200, WebhookEndpointSerializer, 404),
    )
    def get(self, request: Request, endpoint_id: str) -> Response:
        """A webhook endpoint, without its secret."""
        self.query(StrictSerializer)
        return Response(WebhookEndpointSerializer(self.endpoint(endpoint_id)).data)

    @extend_schema(
        operation_id="change_webhook_endpoint",
        tags=["Webhooks"],
        request=ChangeWebhookEndpointSerializer,
        responses=openapi.answers(200, WebhookEndpointSerializer, 400, 404),
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        """Changes what is given. While it is not active, what is due waits, and what happens is not told there."""
        row = self.endpoint(endpoint_id)
        wanted = self.body(ChangeWebhookEndpointSerializer)
        return Response(
            WebhookEndpointSerializer(endpoints.change(endpoint=row, **wanted, actor=self.caller.actor)).data
        )

    @extend_schema(operation_id="delete_webhook_endpoint", tags=["Webhooks"], responses=openapi.answers(204, None, 404))
    def delete(self, request: Request, endpoint_id: str) -> Response:
        """Removes a webhook endpoint with its deliveries and their log."""
        endpoints.delete(endpoint=self.endpoint(endpoint_id), actor=self.caller.actor)
        return Response(status=204)


class RotateSecretView(EndpointView):
    """A new secret."""

    @extend_schema(
        operation_id="rotate_webhook_secret",
        tags=["Webhooks"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=RotateSecretSerializer,
        responses=openapi.answers(200, NewWebhookEndpointSerializer, 400, 404, 409),
    )
    @idempotent
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Gives the endpoint a new secret, shown here only. The one before signs, too, while the grace lasts."""
        row = self.endpoint(endpoint_id)
        grace = timedelta(seconds=self.body(RotateSecretSerializer)["grace_seconds"])
        new = endpoints.rotate(endpoint=row, grace=grace, actor=self.caller.actor, now=timezone.now())
        return self.shown(new, 200)


class PingView(EndpointView):
    """A test."""

    @extend_schema(
        operation_id="test_webhook_endpoint",
        tags=["Webhooks"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=None,
        responses=openapi.answers(201, WebhookDeliverySerializer, 404, 409),
    )
    @idempotent
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Sends a message of the kind `webhook.test` to this endpoint; the delivery's log says how that went."""
        row = self.endpoint(endpoint_id)
        self.body(StrictSerializer)
        delivery = endpoints.ping(endpoint=row, actor=self.caller.actor, now=timezone.now())
        return Response(WebhookDeliverySerializer(delivery).data, status=201)


class ReplaySinceView(EndpointView):
    """Deliveries since a time."""

    @extend_schema(
        operation_id="replay_webhook_endpoint",
        tags=["Webhooks"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=ReplaySinceSerializer,
        responses=openapi.answers(200, ReplayedSerializer, 400, 404, 409),
    )
    @idempotent
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Sends the endpoint what it missed since a time, what happened while it was not active too."""
        row = self.endpoint(endpoint_id)
        wanted = self.body(ReplaySinceSerializer)
        count = deliveries.replay_since(endpoint=row, **wanted, actor=self.caller.actor, now=timezone.now())
        return Response({"deliveries": count})


class WebhookDeliveriesView(TenantView):
    """The tenant's deliveries."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="list_webhook_deliveries",
        tags=["Webhooks"],
        parameters=[WebhookDeliveryQuery],
        responses=openapi.answers(200, openapi.page_of(WebhookDeliverySerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The tenant's webhook deliveries, newest first: which message went where, and what became of it."""
        rows = self.filtered(
            deliveries.rows(tenant=self.caller.tenant), WebhookDeliveryQuery,
            endpoint="endpoint_id", kind="notice__kind", state="state",
        )  # fmt: skip
        return self.page(rows, WebhookDeliverySerializer)


class DeliveryView(TenantView):
    """A view of one delivery."""

    def delivery(self, delivery_id: str) -> WebhookDelivery:
        return deliveries.get(tenant=self.caller.tenant, delivery_id=delivery_id)


class WebhookDeliveryView(DeliveryView):
    """One delivery."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="get_webhook_delivery",
        tags=["Webhooks"],
        responses=openapi.answers(200, WebhookDeliverySerializer, 404),
    )
    def get(self, request: Request, delivery_id: str) -> Response:
        """A webhook delivery."""
        self.query(StrictSerializer)
        return Response(WebhookDeliverySerializer(self.delivery(delivery_id)).data)


class WebhookAttemptsView(DeliveryView):
    """The log of a delivery."""

    scopes = {"GET": ("manage",)}

    @extend_schema(
        operation_id="list_webhook_attempts",
        tags=["Webhooks"],
        parameters=[PageQuery],
        responses=openapi.answers(200, openapi.page_of(WebhookAttemptSerializer), 400, 404),
    )
    def get(self, request: Request, delivery_id: str) -> Response:
        """Each try of a delivery, newest first: the status, the time it took, the first bytes of the answer."""
        delivery = self.delivery(delivery_id)
        self.query(PageQuery)
        rows = WebhookAttempt.objects.for_tenant(self.caller.tenant).filter(delivery=delivery)
        return self.page(rows, WebhookAttemptSerializer)


class ReplayView(DeliveryView):
    """A delivery once more."""

    @extend_schema(
        operation_id="replay_webhook_delivery",
        tags=["Webhooks"],
        parameters=[openapi.IDEMPOTENCY_KEY],
        request=None,
        responses=openapi.answers(200, WebhookDeliverySerializer, 404, 409),
    )
    @idempotent
    def post(self, request: Request, delivery_id: str) -> Response:
        """Sends a delivery again with the same `webhook-id`; one that is being sent already goes on as it was."""
        row = self.delivery(delivery_id)
        self.body(StrictSerializer)
        again = deliveries.replay(delivery=row, actor=self.caller.actor, now=timezone.now())
        return Response(WebhookDeliverySerializer(again).data)
