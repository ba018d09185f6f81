"""Months for tests of bills: usage in them, and closing them."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

from tenants import pricing, scoping
from tenants.invoicing import closing
from tenants.invoicing.closing import Closed
from tenants.ledger import usage
from tenants.ledger.usage import UsageEvent
from tenants.models import Invoice, Tenant
from tests.conftest import Account

AUGUST, SEPTEMBER, OCTOBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (8, 9, 10))
ACTOR = "operator:test"
_numbers = count()


def opened(account: Account, at: datetime = AUGUST) -> Tenant:
    """The account's tenant, as if it had been opened then."""
    with scoping.operator():
        Tenant.objects.filter(pk=account.tenant.pk).update(created_at=at)
        return Tenant.objects.select_related("plan").get(pk=account.tenant.pk)


def used(tenant: Tenant, at: datetime, *, key: str = "key_1", **meters: int | Decimal) -> None:
    """An event in the ledger, which arrives now: after all these months."""
    event = UsageEvent(
        id="req_1", at_ms=int(at.timestamp() * 1000), tenant=tenant.pk, key=key, deployment="cats", version="cats@1",
        meters=meters,
    )  # fmt: skip
    usage.record(events=[event], producer="storage", segment_id=f"test/{next(_numbers)}")


def close(month: datetime, tenant: Tenant | None = None, now: datetime | None = None) -> Closed:
    """Closes a month, by default as soon as it has ended."""
    return closing.close(
        month=month.date(), tenant=tenant, actor=ACTOR, now=now or pricing.month_end(month.date())
    )  # fmt: skip


def invoice(tenant: Tenant, month: datetime) -> Any:
    """The row: a tenant has one invoice for a month."""
    with scoping.operator():
        return Invoice.across_tenants.select_related("tenant__plan").get(tenant=tenant, month=month.date())
