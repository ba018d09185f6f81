"""Watermarks: usage is complete when every producer says so, and an operator decides about those that cannot."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tenants import scoping
from tenants.ledger import producers, usage
from tenants.limits import quotas
from tenants.models import AuditEvent, Period, QuotaBucket, RejectedSegment, UsageProducer
from tests.conftest import Account
from tests.tenants.test_usage import an_event

NOVEMBER, DECEMBER = datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.django_db


def blocking(end: datetime) -> list[str]:
    return [one.producer for one in usage.blocking(end)]


def silent(producer: str) -> None:
    UsageProducer.objects.filter(pk=producer).update(seen_at=timezone.now() - timedelta(minutes=5))


def test_without_producers_only_what_is_recorded_this_minute_is_missing() -> None:
    now = timezone.now()
    assert timedelta() <= now + SECOND - usage.complete_until() - producers.GRACE < timedelta(minutes=1)
    assert usage.blocking(now - 3 * producers.GRACE) == []
    assert blocking(now) == [""]
    assert blocking(now + timedelta(days=1)) == [""]


def test_a_period_waits_for_the_slowest_producer() -> None:
    for producer, watermark in (("slow", DECEMBER - SECOND), ("quick", DECEMBER)):
        usage.open_producer(producer=producer, now=NOVEMBER)
        producers.move_watermark(producer=producer, watermark=watermark)
    assert usage.complete_until() == DECEMBER - SECOND
    assert blocking(DECEMBER) == ["slow"]
    assert blocking(DECEMBER - SECOND) == []
    producers.move_watermark(producer="slow", watermark=DECEMBER)
    assert blocking(DECEMBER) == []


def test_a_producer_that_never_delivered_is_missed_from_its_start() -> None:
    usage.open_producer(producer="new", now=NOVEMBER)
    assert blocking(NOVEMBER) == []
    assert blocking(DECEMBER) == ["new"]
    usage.close_producer(producer="new", now=DECEMBER)
    assert blocking(DECEMBER) == []


def test_a_clock_that_runs_ahead_moves_no_watermark_beyond_the_database() -> None:
    ahead = timezone.now() + timedelta(hours=1)
    usage.open_producer(producer="ahead", now=ahead)
    producers.move_watermark(producer="ahead", watermark=ahead)
    row = UsageProducer.objects.get()
    assert row.watermark is not None
    assert row.watermark < ahead - timedelta(minutes=50)


def test_a_clock_that_runs_behind_holds_the_period_open_until_it_has_passed_its_end() -> None:
    """Half an hour into December its clock says half past eleven, and so do its events."""
    usage.open_producer(producer="behind", now=NOVEMBER)
    producers.move_watermark(producer="behind", watermark=DECEMBER - timedelta(minutes=30))
    assert blocking(DECEMBER) == ["behind"]


def test_who_records_in_transactions_holds_up_nothing_for_longer_than_a_minute(acme: Account) -> None:
    usage.record(events=[an_event(acme.tenant.pk)], producer="training", segment_id="training:1")
    assert UsageProducer.objects.get().records_at_once
    assert usage.blocking(timezone.now() - 2 * producers.GRACE) == []


def test_a_producer_that_is_known_keeps_its_watermark_when_it_records(acme: Account) -> None:
    usage.open_producer(producer="storage", now=NOVEMBER)
    usage.record(events=[an_event(acme.tenant.pk)], producer="storage", segment_id="storage-1")
    assert blocking(DECEMBER) == ["storage"]


def test_a_rejected_segment_holds_up_what_came_after_it_until_it_is_taken() -> None:
    usage.open_producer(producer="p1", now=NOVEMBER - timedelta(days=9))
    producers.move_watermark(producer="p1", watermark=NOVEMBER)
    producers.rejected(segment_id="p1.2", producer="p1", host="h", path="/x", reason="no event")
    producers.move_watermark(producer="p1", watermark=DECEMBER)
    usage.close_producer(producer="p1", now=DECEMBER)
    assert blocking(NOVEMBER) == []
    assert blocking(DECEMBER) == ["p1"]
    assert "p1.2 was rejected: no event" in usage.blocking(DECEMBER)[0].reason
    producers.taken_after_all(segment_id="p1.2")
    assert blocking(DECEMBER) == []


def test_a_dead_producer_is_written_off_with_its_leases_and_its_audit_rows(acme: Account) -> None:
    usage.open_producer(producer="dead", now=NOVEMBER)
    quotas.lease(
        tenant_id=acme.tenant.pk,
        producer="dead",
        asks=[quotas.Ask("tenant", "predictions", "month", wanted=9, minimum=9)],
    )
    silent("dead")
    producers.write_off(producer="dead", reason=" the disk is lost ", actor="operator:ann")
    assert blocking(DECEMBER) == []
    row = UsageProducer.objects.get()
    assert (row.written_off_by, row.written_off_because) == ("operator:ann", "the disk is lost")
    with scoping.operator():
        event = AuditEvent.objects.for_tenant(acme.tenant).get(verb="usage_producer.write_off")
        assert (event.actor, event.subject, event.detail) == ("operator:ann", "dead", {"reason": "the disk is lost"})
        assert QuotaBucket.across_tenants.get(period=Period.MONTH).leased == 0


def test_what_a_written_off_producer_delivers_after_all_is_taken_and_it_counts_again(acme: Account) -> None:
    usage.open_producer(producer="lost", now=NOVEMBER)
    silent("lost")
    producers.write_off(producer="lost", reason="partitioned", actor="operator:ann")
    data = usage.encode(an_event(acme.tenant.pk))
    assert usage.take_segment(segment_id="lost.1", producer="lost", data=data, watermark=NOVEMBER + SECOND)
    assert blocking(DECEMBER) == ["lost"]


def test_only_a_dead_producer_with_something_outstanding_is_written_off() -> None:
    usage.open_producer(producer="alive", now=NOVEMBER)
    usage.open_producer(producer="done", now=NOVEMBER)
    usage.close_producer(producer="done", now=NOVEMBER)
    usage.open_producer(producer="training", now=NOVEMBER, records_at_once=True)
    usage.open_producer(producer="dead", now=NOVEMBER)
    silent("dead")
    for producer, reason, says in (
        ("nobody", "r", "no producer 'nobody'"),
        ("alive", "r", "stop it first"),
        ("done", "r", "have arrived"),
        ("training", "r", "in the transactions"),
        ("dead", " ", "1 to 500 characters"),
        ("dead", "r" * 501, "1 to 500 characters"),
    ):
        with pytest.raises(CommandError, match=says):
            call_command("write_off_producer", producer, "--reason", reason)
    out = StringIO()
    call_command("write_off_producer", "dead", "--reason", "burnt", stdout=out)
    assert "dead is written off" in out.getvalue()
    with pytest.raises(CommandError, match="already, by operator:command: burnt"):
        call_command("write_off_producer", "dead", "--reason", "again")


def test_a_rejected_segment_of_a_drained_producer_can_be_written_off() -> None:
    usage.open_producer(producer="p1", now=NOVEMBER)
    producers.rejected(segment_id="p1.2", producer="p1", host="h", path="/x", reason="no event")
    usage.close_producer(producer="p1", now=DECEMBER)
    silent("p1")
    producers.write_off(producer="p1", reason="nobody can read it", actor="operator:ann")
    assert blocking(DECEMBER) == []
    assert RejectedSegment.objects.exists()


def test_the_operator_sees_who_holds_up_what() -> None:
    usage.open_producer(producer="plane-1", now=NOVEMBER)
    usage.open_producer(producer="gone", now=NOVEMBER)
    silent("gone")
    producers.write_off(producer="gone", reason="burnt", actor="operator:ann")
    producers.rejected(segment_id="plane-1.7", producer="plane-1", host="h1", path="/x", reason="no event")
    out = StringIO()
    call_command("ledger", stdout=out)
    told = out.getvalue()
    assert f"complete until {NOVEMBER:%Y-%m-%d %H:%M:%S} UTC" in told
    assert "manage.py retry_segment plane-1.7" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith(("plane-1 ", "gone "))] == [
        "written",
        "open",
    ]
