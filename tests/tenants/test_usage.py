"""The ledger: a segment is taken once, whatever happens to its file or to who brings it."""

from decimal import Decimal

import pytest

from tenants import scoping, usage
from tenants.models import UsageHour
from tenants.usage import UsageEvent
from tests.conftest import Account

AT = 1_795_000_000_000


def an_event(tenant: str, number: int = 1, at_ms: int = AT, **meters: int | Decimal) -> UsageEvent:
    return UsageEvent(
        id=f"req_{number}",
        at_ms=at_ms,
        tenant=tenant,
        key="key_1",
        deployment="cats",
        version="cats@1",
        meters=meters or {"requests": 1, "predictions": 2, "compute_us": 1500, "input_bytes": 100},
    )


def test_a_segment_is_taken_once(acme: Account) -> None:
    data = usage.encode(an_event(acme.tenant.pk)) + usage.encode(an_event(acme.tenant.pk, 2))
    assert usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
    assert not usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
    with scoping.tenant(acme.tenant.pk):
        sums = {row.meter: row.quantity for row in UsageHour.objects.for_tenant(acme.tenant)}
    assert sums == {"requests": 2, "predictions": 4, "compute_ms": 3, "input_bytes": 200}


def test_a_quantity_with_decimals_is_kept_exactly(acme: Account) -> None:
    event = an_event(acme.tenant.pk, training_seconds=Decimal("1.234"))
    assert usage.record(events=[event], producer="t1", segment_id="job_1/1")
    with scoping.tenant(acme.tenant.pk):
        assert UsageHour.objects.for_tenant(acme.tenant).get().quantity == Decimal("1.234")


@pytest.mark.parametrize("meters", [{"unknown": 1}, {"requests": -1}, {"requests": 0.5}])
def test_what_is_no_quantity_is_refused_when_it_is_written(meters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="an event counts"):
        usage.encode(an_event("ten_1", **meters))
