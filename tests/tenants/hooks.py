"""What tests of webhooks do: register an endpoint, have something happen, send what is due."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import notices, scoping
from tenants.models import AuditEvent, Notice
from tenants.webhooks import deliveries, sending
from tenants.webhooks.deliveries import Outcome, Parcel
from tests.conftest import Account
from tests.tenants.receiver import Receiver, receiving

ENDPOINTS = "/api/v1/webhook-endpoints"
DELIVERIES = "/api/v1/webhook-deliveries"
URL = "https://1.1.1.1/hook"
KIND = "training_job.ended"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found, override_settings(WEBHOOK_ALLOW_PRIVATE=True):
        yield found


def register(client: APIClient, url: str = URL, **more: Any) -> dict[str, Any]:
    answer = client.post(ENDPOINTS, {"url": url, "kinds": [KIND], **more}, format="json")
    assert answer.status_code == 201, answer.content
    found: dict[str, Any] = answer.json()
    return found


def happen(account: Account, *names: str, kind: str = KIND, at: datetime | None = None) -> None:
    with scoping.tenant(account.tenant.pk):
        for name in names:
            assert notices.announce(tenant=account.tenant, kind=kind, once=name, job=name)
            if at is not None:
                Notice.objects.for_tenant(account.tenant).filter(kind=kind, once=name).update(created_at=at)


def dispatch(now: datetime | None = None) -> int:
    with scoping.operator():
        return deliveries.dispatch(now=now or timezone.now())


def claim(now: datetime | None = None) -> Parcel | None:
    with scoping.operator():
        return deliveries.claim(now=now or timezone.now())


def claimed(now: datetime | None = None) -> Parcel:
    parcel = claim(now)
    assert parcel is not None
    return parcel


def settle(parcel: Parcel, now: datetime, status: int | None = None, **more: Any) -> bool:
    outcome = Outcome(at=now, duration_ms=5, status=status, error="" if status else "nobody there", **more)
    with scoping.operator():
        return deliveries.settle(parcel=parcel, outcome=outcome, now=now, spread=0.0)


def send_what_is_due(now: datetime | None = None) -> int:
    """One sender's work, in this thread."""
    dispatch(now)
    count = 0
    while parcel := claim(now):
        outcome = sending.send(parcel, now=timezone.now())
        with scoping.operator():
            assert deliveries.settle(parcel=parcel, outcome=outcome, now=now or timezone.now(), spread=0.0)
        count += 1
    return count


def verbs(account: Account) -> list[str]:
    with scoping.operator():
        found = AuditEvent.objects.for_tenant(account.tenant).filter(verb__startswith="webhook").order_by("at")
        return [event.verb for event in found]
