"""Deliveries: notices on their way to endpoints; written down, claimed by a sender, settled, and replayed."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from tenants import audit
from tenants.errors import NotFound
from tenants.models import (
    DeliveryState,
    Disabled,
    Notice,
    Tenant,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)  # fmt: skip
from tenants.webhooks.endpoints import require_active

ACTOR = "webhook_sender"
# The waits of Standard Webhooks 1.0 after each failure: ten tries over three days.
WAITS = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)  # fmt: skip
JITTER = 0.2
LONGEST_RETRY_AFTER = timedelta(days=1)
DISABLED_AFTER = timedelta(days=5)
GONE = 410
NOTICES_AT_ONCE = 100
MOST_AT_HAND = 4  # of one tenant, over all senders: its slow endpoints leave senders to others


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery that a sender holds, with all that sending it needs."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    notice: Notice


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a try came to: a status, or the words why there is none."""

    at: datetime
    duration_ms: int
    status: int | None = None
    error: str = ""
    answer: str = ""
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def rows(*, tenant: Tenant | str) -> QuerySet[WebhookDelivery]:
    """The tenant's deliveries."""
    return WebhookDelivery.objects.for_tenant(tenant).select_related("notice", "endpoint")


def get(*, tenant: Tenant | str, delivery_id: str) -> WebhookDelivery:
    """The tenant's delivery of this id."""
    row = rows(tenant=tenant).filter(pk=delivery_id).first()
    if row is None:
        raise NotFound(f"There is no webhook delivery {delivery_id!r}.")
    return row


def replay(*, delivery: WebhookDelivery, actor: str, now: datetime) -> WebhookDelivery:
    """Sends a delivery again, with the same webhook-id and all its tries before it; one at hand goes on as it was."""
    require_active(delivery.endpoint)
    found = WebhookDelivery.objects.for_tenant(delivery.tenant_id).filter(pk=delivery.pk)
    if _begin_again(found, now):
        audit.record(tenant=delivery.tenant_id, actor=actor, verb="webhook_delivery.replay", subject=delivery.pk)
    return get(tenant=delivery.tenant_id, delivery_id=delivery.pk)


def replay_since(
    *, endpoint: WebhookEndpoint, since: datetime, delivered_too: bool = False, actor: str, now: datetime
) -> int:
    """Sends an endpoint what it missed of the notices since a time, those from while it was off too; how many.

    `delivered_too`: also what it has taken already.
    """
    require_active(endpoint)
    missed = Notice.objects.for_tenant(endpoint.tenant_id).filter(
        kind__in=endpoint.kinds, created_at__gte=since, dispatched_at__isnull=False
    )
    there = WebhookDelivery.objects.for_tenant(endpoint.tenant_id).filter(endpoint=endpoint)
    missing = missed.exclude(pk__in=there.values("notice")).order_by("created_at")
    new = [_delivery(notice, endpoint, due=now, now=now) for notice in missing]
    again = there.filter(notice__created_at__gte=since)
    count = _begin_again(again if delivered_too else again.exclude(state=DeliveryState.DELIVERED), now)
    WebhookDelivery.across_tenants.bulk_create(new, ignore_conflicts=True)
    audit.record(
        tenant=endpoint.tenant_id, actor=actor, verb="webhook_endpoint.replay", subject=endpoint.pk,
        since=since.isoformat(), deliveries=count + len(new), delivered_too=delivered_too,
    )  # fmt: skip
    return count + len(new)


def retry_at(*, tries: int, now: datetime, spread: float, retry_after: timedelta | None = None) -> datetime | None:
    """When a delivery is tried again after so many failed tries, none if it is not.

    `spread` is a random number of 0 to 1: a wait becomes up to a fifth longer, so that what failed together does not
    return together. A `Retry-After` of the answer may make it longer still.
    """
    if tries > len(WAITS):
        return None
    wait = WAITS[tries - 1] * (1 + JITTER * spread)
    if retry_after is not None:
        wait = max(wait, min(retry_after, LONGEST_RETRY_AFTER))
    return now + wait


# What a sender does; it runs in operator scope, each in a transaction of its own.


def dispatch(*, now: datetime) -> int:
    """Writes down the deliveries of notices that are new, for the endpoints that want them; how many notices."""
    found = list(
        Notice.across_tenants.filter(dispatched_at=None)
        .order_by("created_at")
        .select_for_update(skip_locked=True, of=("self",))[:NOTICES_AT_ONCE]
    )
    tenants = {notice.tenant_id for notice in found}
    wanting: dict[str, list[WebhookEndpoint]] = {}
    for endpoint in WebhookEndpoint.across_tenants.filter(tenant_id__in=tenants, disabled=""):
        wanting.setdefault(endpoint.tenant_id, []).append(endpoint)
    WebhookDelivery.across_tenants.bulk_create(
        [
            _delivery(notice, endpoint, due=min(notice.created_at, now), now=now)  # so they go out in their order
            for notice in found
            for endpoint in wanting.get(notice.tenant_id, [])
            if notice.kind in endpoint.kinds and endpoint.created_at <= notice.created_at
        ],
        ignore_conflicts=True,
    )
    Notice.across_tenants.filter(pk__in=[notice.pk for notice in found]).update(dispatched_at=now)
    return len(found)


def claim(*, now: datetime) -> Parcel | None:
    """A delivery that is due, for its sender to hold until `settle`, or until it has been silent for the lease."""
    busy = (
        WebhookDelivery.across_tenants.filter(claimed_until__gt=now)
        .values("tenant_id")
        .annotate(at_hand=Count("pk"))
        .filter(at_hand__gte=MOST_AT_HAND)
    )
    row = (
        WebhookDelivery.across_tenants.filter(
            Q(claimed_until=None) | Q(claimed_until__lte=now),
            state=DeliveryState.PENDING,
            next_at__lte=now,
            endpoint__disabled="",
            tenant__active=True,
        )
        .exclude(tenant_id__in=busy.values("tenant_id"))
        .select_related("endpoint", "notice")
        .order_by("next_at", "id")
        .select_for_update(skip_locked=True, of=("self",), no_key=True)
        .first()
    )
    if row is None:
        return None
    row.claim, row.tries = secrets.token_hex(8), row.tries + 1
    row.claimed_until = now + timedelta(seconds=settings.WEBHOOK_LEASE_SECONDS)
    row.save(update_fields=["claim", "claimed_until", "tries"])
    return Parcel(delivery=row, endpoint=row.endpoint, notice=row.notice)


def settle(*, parcel: Parcel, outcome: Outcome, now: datetime, spread: float) -> bool:
    """Writes down what a try came to; false if the delivery is another sender's by now, or was deleted."""
    held = WebhookDelivery.across_tenants.filter(pk=parcel.delivery.pk, claim=parcel.delivery.claim)
    again = retry_at(tries=parcel.delivery.tries, now=now, spread=spread, retry_after=outcome.retry_after)
    if outcome.delivered:
        changed = held.update(**_ended(DeliveryState.DELIVERED, now))
    elif outcome.status == GONE:
        changed = held.update(**_ended(DeliveryState.GONE, now))
    elif again is None:
        changed = held.update(**_ended(DeliveryState.FAILED, now))
    else:
        changed = held.update(claim="", claimed_until=None, next_at=again)
    if not changed:
        return False
    WebhookAttempt.objects.create(
        tenant_id=parcel.delivery.tenant_id,
        delivery=parcel.delivery,
        at=outcome.at,
        duration_ms=outcome.duration_ms,
        status=outcome.status,
        error=outcome.error,
        answer=outcome.answer,
    )
    _note_health(parcel.endpoint, outcome, now)
    return True


def _note_health(endpoint: WebhookEndpoint, outcome: Outcome, now: datetime) -> None:
    """Switches an endpoint off that answered 410 or has failed for days; the last rows that are locked."""
    row = WebhookEndpoint.across_tenants.filter(pk=endpoint.pk)
    if outcome.delivered:
        row.exclude(failing_since=None).update(failing_since=None)
        return
    row.filter(failing_since=None).update(failing_since=now)
    if outcome.status == GONE:
        why = Disabled.GONE
        switched_off = row.filter(disabled="").update(disabled=why)
    else:
        why = Disabled.FAILING
        switched_off = row.filter(disabled="", failing_since__lte=now - DISABLED_AFTER).update(disabled=why)
    if switched_off:
        audit.record(
            tenant=endpoint.tenant_id, actor=ACTOR, verb="webhook_endpoint.disable", subject=endpoint.pk, why=why.value,
            status=outcome.status, error=outcome.error,
        )  # fmt: skip


def _delivery(notice: Notice, endpoint: WebhookEndpoint, *, due: datetime, now: datetime) -> WebhookDelivery:
    return WebhookDelivery(
        tenant_id=notice.tenant_id, endpoint=endpoint, notice=notice, next_at=due, created_at=now
    )  # fmt: skip


def _begin_again(found: QuerySet[WebhookDelivery], now: datetime) -> int:
    """Makes deliveries due now; one that waits for its next try need not wait, one that a sender has at hand does."""
    waits = Q(state=DeliveryState.PENDING, next_at__gt=now) & (Q(claimed_until=None) | Q(claimed_until__lte=now))
    again = found.filter(~Q(state=DeliveryState.PENDING) | waits)
    # In one order, so that two who replay the same at once do not wait for each other in a circle.
    locked = again.order_by("pk").select_for_update(of=("self",), no_key=True).values_list("pk", flat=True)
    return WebhookDelivery.across_tenants.filter(pk__in=list(locked)).update(
        state=DeliveryState.PENDING, tries=0, next_at=now, claim="", claimed_until=None, ended_at=None
    )


def _ended(state: DeliveryState, now: datetime) -> dict[str, object]:
    return {"state": state, "ended_at": now, "next_at": None, "claim": "", "claimed_until": None}
