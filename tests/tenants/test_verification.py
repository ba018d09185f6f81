"""The proof: the archive and the rollup are equal, and whatever makes them differ is named."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants import scoping
from tenants.ledger import usage, verification
from tenants.models import UsageHour, UsageSegment
from tests.conftest import Account
from tests.tenants.test_usage import an_event

START = datetime(2025, 11, 1, tzinfo=UTC)
END = datetime(2025, 12, 1, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1000
END_MS = int(END.timestamp()) * 1000
numbers = itertools.count()


def take(segment_id: str, *events: usage.UsageEvent) -> None:
    usage.take_segment(
        segment_id=segment_id, producer="p1", data=b"".join(map(usage.encode, events)), watermark=None
    )  # fmt: skip


def evidence_of(account: Account) -> verification.Evidence:
    return verification.quantities_from_archive(tenant=account.tenant, start=START, end=END)


def verify(account: Account) -> str:
    out = StringIO()
    call_command("verify_usage", account.tenant.name, "2025-11", stdout=out)
    return out.getvalue()


def test_a_month_is_derived_again_with_its_first_and_last_moment_and_nobody_elses(
    acme: Account, globex: Account
) -> None:
    take("seg1", *(an_event(acme.tenant.pk, n, at) for n, at in enumerate((START_MS - 1, START_MS, START_MS + 5))))
    take("seg2", an_event(acme.tenant.pk, 4, END_MS - 1), an_event(acme.tenant.pk, 5, END_MS))
    take("seg3", an_event(globex.tenant.pk, 6, START_MS), an_event(acme.tenant.pk, 7, START_MS))
    take("seg4", an_event(acme.tenant.pk, 8, END_MS))
    found = evidence_of(acme)
    assert found.equal
    assert (found.segments, found.events) == (3, 4)
    last = verification.Sum(END - timedelta(hours=1), "key_1", "cats", "cats@1", "compute_ms")
    assert found.archived[last] == Decimal("1.5")
    assert verification.hourly(found.archived)["predictions", START] == 6
    assert "Equal: 4 events of acme in 3 segments" in verify(acme)
    assert "Equal: 1 events of globex" in verify(globex)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            lambda at, key, meters: (at, key, meters),
            st.integers(START_MS - 10_000_000, END_MS + 10_000_000),
            st.sampled_from(["", "key_1", "key_2"]),
            st.dictionaries(st.sampled_from(["requests", "compute_us"]), st.integers(0, 2**40))
            | st.dictionaries(st.just("stored_byte_hours"), st.decimals(0, 10**12, places=12)),
        ),
        max_size=20,
    )
)
def test_whatever_was_used_the_archive_and_the_rollup_are_equal(
    acme: Account, used: list[tuple[int, str, dict[str, int | Decimal]]]
) -> None:
    segment = next(numbers)
    events = [
        usage.UsageEvent(f"{segment}-{n}", at, acme.tenant.pk, key, "cats", "cats@1", meters)
        for n, (at, key, meters) in enumerate(used)
    ]
    take(f"{segment}-even", *events[::2])
    take(f"{segment}-odd", *events[1::2])
    found = evidence_of(acme)
    assert found.equal, (found.damaged, found.differences)


def test_a_rollup_that_was_changed_is_named_with_the_hour_and_both_quantities(acme: Account) -> None:
    take("seg1", an_event(acme.tenant.pk, 1, START_MS))
    with scoping.operator():
        UsageHour.across_tenants.filter(meter="predictions").update(quantity=3)
        UsageHour.across_tenants.filter(meter="input_bytes").delete()
        UsageHour.across_tenants.create(tenant=acme.tenant, hour=START, meter="training_seconds", quantity=5)
    differences = evidence_of(acme).differences
    assert [one.sum.meter for one in differences] == ["training_seconds", "input_bytes", "predictions"]
    assert [int(one.archived) for one in differences] == [0, 100, 2]
    assert [int(one.rollup) for one in differences] == [5, 0, 3]
    with pytest.raises(CommandError) as raised:
        verify(acme)
    assert "NOT EQUAL" in str(raised.value)
    assert (
        "2025-11-01 00h, predictions of key_1, cats, cats@1: 2 in the archive, 3 in the rollup" in str(raised.value)
    )  # fmt: skip


def test_a_segment_that_was_lost_or_changed_is_named(acme: Account) -> None:
    take("seg1", an_event(acme.tenant.pk, 1, START_MS))
    take("seg2", an_event(acme.tenant.pk, 2, START_MS))
    one, two = UsageSegment.objects.order_by("pk")
    Path(default_storage.path(one.archived_as)).unlink()
    Path(default_storage.path(two.archived_as)).write_bytes(b"")
    found = evidence_of(acme)
    assert not found.equal
    assert [text.partition(":")[0] for text in sorted(found.damaged)] == ["segment seg1", "segment seg2"]
    with pytest.raises(CommandError, match=r"segment seg1: its file .* is missing"):
        verify(acme)


def test_what_is_no_month_or_nobodys_is_refused(acme: Account) -> None:
    for words, says in ((("acme", "november"), "2026-11"), (("nobody", "2025-11"), "no tenant 'nobody'")):
        with pytest.raises(CommandError, match=says):
            call_command("verify_usage", *words)
