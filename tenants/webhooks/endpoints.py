"""Endpoints of webhooks: the verbs create, change, rotate, delete and ping."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tenants import audit, notices
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.models import Disabled, Notice, Tenant, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import destinations, signatures

MOST_ENDPOINTS = 20
GRACE = timedelta(days=1)
LONGEST_GRACE = timedelta(days=7)
TEST_KIND = "webhook.test"
WHY_OFF = {
    Disabled.BY_OWNER: "was switched off by its owner",
    Disabled.FAILING: "was switched off because it failed for days",
    Disabled.GONE: "was switched off because it answered 410 Gone",
}


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An endpoint whose secret is new: the only time it is shown."""

    row: WebhookEndpoint
    secret: str


def create(
    *, tenant: Tenant, url: str, kinds: Sequence[str], description: str = "", actor: str, now: datetime
) -> NewSecret:
    """Registers a URL for some kinds of notices; what happens from now on is posted there."""
    wanted = _kinds(kinds)
    destinations.check(url)
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)  # so that two at once do not pass the limit
    if WebhookEndpoint.objects.for_tenant(tenant).count() >= MOST_ENDPOINTS:
        raise Conflict(f"There are {MOST_ENDPOINTS} webhook endpoints already; delete one first.")
    row = WebhookEndpoint.objects.create(
        tenant=tenant, url=url, kinds=wanted, description=description, seed=signatures.draw_seed(), created_at=now
    )
    audit.record(tenant=tenant, actor=actor, verb="webhook_endpoint.create", subject=row.pk, url=url, kinds=wanted)
    return NewSecret(row=row, secret=signatures.secret(bytes(row.seed)))


def change(
    *,
    endpoint: WebhookEndpoint,
    url: str | None = None,
    kinds: Sequence[str] | None = None,
    description: str | None = None,
    active: bool | None = None,
    actor: str,
) -> WebhookEndpoint:
    """Changes what is given. Switched on again, it gets what waited for it; its failures are forgotten."""
    changes: dict[str, Any] = {}
    if url is not None and url != endpoint.url:
        destinations.check(url)
        changes["url"] = url
    if kinds is not None and sorted(kinds) != sorted(endpoint.kinds):
        changes["kinds"] = _kinds(kinds)
    if description is not None and description != endpoint.description:
        changes["description"] = description
    if active is not None and active != endpoint.active:
        changes |= {"disabled": "", "failing_since": None} if active else {"disabled": Disabled.BY_OWNER}
    if changes:
        WebhookEndpoint.objects.for_tenant(endpoint.tenant_id).filter(pk=endpoint.pk).update(**changes)
        told = {name: value for name, value in changes.items() if name != "failing_since"}
        audit.record(
            tenant=endpoint.tenant_id, actor=actor, verb="webhook_endpoint.change", subject=endpoint.pk, **told
        )
    return get(tenant=endpoint.tenant_id, endpoint_id=endpoint.pk)


def rotate(*, endpoint: WebhookEndpoint, grace: timedelta = GRACE, actor: str, now: datetime) -> NewSecret:
    """Gives an endpoint a new secret; while the grace lasts, messages are signed with the one before, too."""
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        message = f"Expected 0 to {LONGEST_GRACE // timedelta(seconds=1)} seconds."
        raise Invalid(f"grace_seconds: {message}", errors=(FieldError("grace_seconds", message),))
    rows = WebhookEndpoint.objects.for_tenant(endpoint.tenant_id).filter(pk=endpoint.pk)
    locked = rows.select_for_update(no_key=True).first()
    if locked is None:
        raise _missing(endpoint.pk)
    locked.previous_seed, locked.previous_until = (locked.seed, now + grace) if grace else (None, None)
    locked.seed = signatures.draw_seed()
    locked.save(update_fields=["seed", "previous_seed", "previous_until"])
    audit.record(
        tenant=locked.tenant_id, actor=actor, verb="webhook_endpoint.rotate", subject=locked.pk,
        grace_seconds=int(grace.total_seconds()),
    )  # fmt: skip
    return NewSecret(row=locked, secret=signatures.secret(bytes(locked.seed)))


def delete(*, endpoint: WebhookEndpoint, actor: str) -> None:
    """Removes an endpoint with its deliveries and their log: nothing is sent there any more."""
    removed, _ = WebhookEndpoint.objects.for_tenant(endpoint.tenant_id).filter(pk=endpoint.pk).delete()
    if removed:
        audit.record(
            tenant=endpoint.tenant_id, actor=actor, verb="webhook_endpoint.delete", subject=endpoint.pk,
            url=endpoint.url,
        )  # fmt: skip


def ping(*, endpoint: WebhookEndpoint, actor: str, now: datetime) -> WebhookDelivery:
    """Sends a notice of the kind `webhook.test` to this endpoint alone."""
    require_active(endpoint)
    notice = Notice(tenant_id=endpoint.tenant_id, kind=TEST_KIND, data={"endpoint": endpoint.pk}, created_at=now)
    notice.once, notice.dispatched_at = notice.pk, now
    notice.save(force_insert=True)
    delivery = WebhookDelivery.objects.create(
        tenant_id=endpoint.tenant_id, endpoint=endpoint, notice=notice, next_at=now, created_at=now
    )
    audit.record(
        tenant=endpoint.tenant_id, actor=actor, verb="webhook_endpoint.ping", subject=endpoint.pk, delivery=delivery.pk
    )
    return delivery


def get(*, tenant: Tenant | str, endpoint_id: str) -> WebhookEndpoint:
    """The tenant's endpoint of this id."""
    row = WebhookEndpoint.objects.for_tenant(tenant).filter(pk=endpoint_id).first()
    if row is None:
        raise _missing(endpoint_id)
    return row


def require_active(endpoint: WebhookEndpoint) -> None:
    """Refuses an endpoint that is switched off."""
    if not endpoint.active:
        why = WHY_OFF[Disabled(endpoint.disabled)]
        raise Conflict(f"The webhook endpoint {endpoint.pk} {why}; switch it on first: PATCH it with active true.")


def _kinds(kinds: Sequence[str]) -> list[str]:
    unknown = sorted(set(kinds) - set(notices.KINDS))
    if unknown or not kinds:
        expected = f"Expected some of {', '.join(notices.KINDS)}."
        raise Invalid(f"kinds: {expected} Got {', '.join(unknown) or 'none'}.", errors=(FieldError("kinds", expected),))
    return sorted(set(kinds), key=notices.KINDS.index)


def _missing(endpoint_id: str) -> NotFound:
    return NotFound(f"There is no webhook endpoint {endpoint_id!r}.")
