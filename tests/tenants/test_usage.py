"""The ledger: a segment is taken once, whatever happens to its file or to who brings it."""

import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import google_crc32c
import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from tenants import scoping
from tenants.ledger import usage
from tenants.ledger.usage import UsageEvent
from tenants.ledger.usage_sums import Counted, Sums
from tenants.ledger.usage_totals import HOUR_MS
from tenants.limits import quotas
from tenants.limits.quota_limits import PREDICTION_PERIODS
from tenants.models import UsageHour, UsageProducer, UsageSegment
from tests.conftest import Account
from tests.threads import in_threads

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


def sums_of(account: Account) -> dict[str, Decimal]:
    with scoping.tenant(account.tenant.pk):
        rows = UsageHour.objects.for_tenant(account.tenant).values("meter").annotate(total=Sum("quantity"))
        return {row["meter"]: row["total"] for row in rows}


# Frames


events = st.builds(
    UsageEvent,
    id=st.text(max_size=8),
    at_ms=st.integers(0, 2**45),
    tenant=st.text(max_size=8),
    key=st.text(max_size=8),
    deployment=st.text(max_size=8),
    version=st.text(max_size=8),
    meters=st.dictionaries(
        st.sampled_from(sorted(usage.METERS - usage.WHOLE)),
        st.integers(0, 2**63) | st.decimals(0, 10**20, places=12),
    ),
)


@given(st.lists(events, max_size=5))
def test_what_is_written_is_read(written: list[UsageEvent]) -> None:
    segment = b"".join(map(usage.encode, written))
    assert usage.decode(segment) == (written, len(segment))


@given(st.lists(events, min_size=1, max_size=4), st.data())
def test_a_torn_segment_gives_the_whole_frames_before_the_tear(written: list[UsageEvent], data: st.DataObject) -> None:
    frames = [usage.encode(event) for event in written]
    segment = b"".join(frames)
    cut = data.draw(st.integers(0, len(segment)))
    tail = data.draw(st.sampled_from([b"", b"\0" * 64]))  # A crash may leave zeros behind the last bytes.
    read, good = usage.decode(segment[:cut] + tail)
    ends = [sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    whole = sum(end <= cut for end in ends)
    assert read == written[:whole]
    assert good == sum(map(len, frames[:whole]))


@given(st.lists(events, min_size=1, max_size=4), st.data())
def test_a_flipped_bit_never_makes_an_event_that_was_not_written(
    written: list[UsageEvent], data: st.DataObject
) -> None:
    frames = [usage.encode(event) for event in written]
    segment = bytearray(b"".join(frames))
    place = data.draw(st.integers(0, len(segment) * 8 - 1))
    segment[place // 8] ^= 1 << place % 8
    hit = next(n for n in range(len(frames)) if sum(map(len, frames[: n + 1])) > place // 8)
    read, good = usage.decode(bytes(segment))
    assert read == written[:hit]
    assert good == sum(map(len, frames[:hit]))


def test_every_cut_and_every_bit_of_one_segment() -> None:
    written = [an_event("ten_1", 1), an_event("ten_2", 2)]
    first, second = map(usage.encode, written)
    segment = first + second
    for cut in range(len(segment)):
        assert usage.decode(segment[:cut])[0] == written[: int(cut >= len(first))]
    for place in range(len(segment) * 8):
        torn = bytearray(segment)
        torn[place // 8] ^= 1 << place % 8
        assert usage.decode(bytes(torn))[0] == written[: int(place // 8 >= len(first))]


def test_a_whole_frame_that_is_no_event_is_not_skipped_in_silence() -> None:
    payload = b"not json"
    frame = struct.pack("<II", len(payload), google_crc32c.value(payload)) + payload
    with pytest.raises(usage.NotAnEvent):
        usage.decode(usage.encode(an_event("ten_1")) + frame)


@pytest.mark.parametrize(
    "meters",
    [
        {"unknown": 1},
        {"compute_ms": 1},
        {"requests": -1},
        {"requests": 0.5},
        {"requests": True},
        {"requests": Decimal("NaN")},
        {"requests": Decimal("-0.1")},
        {"predictions": Decimal("1.5")},
        {"compute_us": Decimal("1.5")},
    ],
)
def test_what_is_no_quantity_is_refused_when_it_is_written(meters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="an event counts"):
        usage.encode(an_event("ten_1", **meters))


# Segments


def test_a_segment_is_taken_once(acme: Account) -> None:
    data = usage.encode(an_event(acme.tenant.pk)) + usage.encode(an_event(acme.tenant.pk, 2))
    assert usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
    assert not usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
    assert sums_of(acme) == {"requests": 2, "predictions": 4, "compute_ms": 3, "input_bytes": 200}


def test_a_segment_that_comes_again_with_other_content_is_named(
    acme: Account, caplog: pytest.LogCaptureFixture
) -> None:
    frame = usage.encode(an_event(acme.tenant.pk))
    usage.take_segment(segment_id="seg1", producer="p1", data=frame, watermark=None)
    assert not usage.take_segment(segment_id="seg1", producer="p1", data=frame * 2, watermark=None)
    assert "seg1 came again with other content" in caplog.text
    assert sums_of(acme)["requests"] == 1


def test_the_torn_tail_of_a_segment_is_left_out_and_named(acme: Account, caplog: pytest.LogCaptureFixture) -> None:
    frame = usage.encode(an_event(acme.tenant.pk))
    assert usage.take_segment(segment_id="seg1", producer="p1", data=frame + frame[:-3], watermark=None)
    assert sums_of(acme)["requests"] == 1
    assert f"{len(frame)} of its {2 * len(frame) - 3} bytes are whole frames" in caplog.text


def test_an_hour_ends_where_the_next_begins(acme: Account) -> None:
    hour = datetime(2026, 11, 1, tzinfo=UTC)
    last = int(hour.timestamp() * 1000) + 3_599_999
    data = usage.encode(an_event(acme.tenant.pk, at_ms=last)) + usage.encode(an_event(acme.tenant.pk, at_ms=last + 1))
    usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
    with scoping.tenant(acme.tenant.pk):
        rows = UsageHour.objects.for_tenant(acme.tenant).filter(meter="requests")
        assert {row.hour: row.quantity for row in rows} == {hour: 1, hour + timedelta(hours=1): 1}
    segment = UsageSegment.objects.get()
    assert (segment.events, segment.first_event_at) == (2, hour + timedelta(milliseconds=3_599_999))


def test_sums_are_exact_beyond_what_a_float_or_the_default_context_holds(acme: Account) -> None:
    quantity = Decimal("12345678901234567890.123456789012")
    data = b"".join(usage.encode(an_event(acme.tenant.pk, n, stored_byte_hours=quantity)) for n in range(1000))
    usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
    assert sums_of(acme) == {"stored_byte_hours": Decimal("12345678901234567890123.456789012000")}


def test_the_watermark_moves_forward_only(acme: Account) -> None:
    early, late = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    usage.open_producer(producer="p1", now=early)
    for number, watermark in enumerate([late, early, None]):
        usage.take_segment(segment_id=f"seg{number}", producer="p1", data=b"", watermark=watermark)
        assert UsageProducer.objects.get().watermark == late
    usage.close_producer(producer="p1", now=late)
    assert UsageProducer.objects.get().drained_at == late


def test_a_quantity_with_decimals_is_kept_exactly(acme: Account) -> None:
    event = an_event(acme.tenant.pk, training_seconds=Decimal("1.234"))
    assert usage.record(events=[event], producer="t1", segment_id="job_1/1")
    assert not usage.record(events=[event], producer="t1", segment_id="job_1/1")
    assert sums_of(acme) == {"training_seconds": Decimal("1.234")}


def test_events_of_a_transaction_that_fails_are_not_recorded(acme: Account) -> None:
    with scoping.tenant(acme.tenant.pk):
        assert usage.record(events=[an_event(acme.tenant.pk)], producer="t1", segment_id="job_1/1")
        transaction.set_rollback(True)
    assert not sums_of(acme)
    assert not UsageSegment.objects.exists()


def test_recording_leaves_the_scope_as_it_was(acme: Account, globex: Account) -> None:
    with scoping.operator():
        usage.record(events=[an_event(globex.tenant.pk)], producer="t1", segment_id="job_1/1")
    with scoping.tenant(acme.tenant.pk):
        usage.record(events=[an_event(acme.tenant.pk)], producer="t1", segment_id="job_2/1")
        assert {row.tenant_id for row in UsageHour.across_tenants.all()} == {acme.tenant.pk}


# Several processes at once


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_processes_with_the_same_segment_at_once_count_it_once(acme: Account) -> None:
    data = usage.encode(an_event(acme.tenant.pk))
    taken: list[bool] = []

    def ship(number: int) -> None:
        with scoping.operator():
            taken.append(usage.take_segment(segment_id="seg1", producer=f"p{number}", data=data, watermark=None))
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.2)")

    in_threads(ship, 3)
    assert sorted(taken) == [False, False, True]
    assert sums_of(acme)["requests"] == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_segment_whose_first_taker_dies_is_taken_by_the_next(acme: Account) -> None:
    data = usage.encode(an_event(acme.tenant.pk))
    with transaction.atomic():
        assert usage.take_segment(segment_id="seg1", producer="p1", data=data, watermark=None)
        transaction.set_rollback(True)
    assert usage.take_segment(segment_id="seg1", producer="p2", data=data, watermark=None)
    assert sums_of(acme)["requests"] == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("what_they_share", ["the sums", "the quotas only"])
def test_shippers_that_meet_the_same_rows_in_opposite_orders_do_not_deadlock(
    what_they_share: str, acme: Account, globex: Account
) -> None:
    now = int(timezone.now().timestamp() * 1000)
    events = []
    for account in (acme, globex):
        asks = [quotas.Ask("tenant", "predictions", period, wanted=9, minimum=9) for period in PREDICTION_PERIODS]
        quotas.lease(tenant_id=account.tenant.pk, producer="p0", asks=asks)
        events += [an_event(account.tenant.pk, at_ms=now - hour * HOUR_MS) for hour in range(50)]

    def ship(number: int) -> None:
        key = "key_1" if what_they_share == "the sums" else f"key_{number}"
        frames = [usage.encode(replace(event, key=key)) for event in events]
        data = b"".join(frames if number % 2 else frames[::-1])
        for turn in range(12):
            assert usage.take_segment(segment_id=f"{number}/{turn}", producer=f"p{number}", data=data, watermark=None)

    in_threads(ship, 4)
    assert sums_of(acme)["requests"] == sums_of(globex)["requests"] == 4 * 12 * 50


@given(
    st.lists(
        st.tuples(
            st.integers(1_790_000_000_000, 1_790_010_000_000),
            st.sampled_from(["ten_1", "ten_2"]),
            st.sampled_from(["key_1", "key_2"]),
            st.sampled_from(["cats", "dogs"]),
            st.sampled_from(["cats@1", "cats@2"]),
            st.integers(0, 100),
            st.integers(0, 10**9),
            st.integers(0, 10**9),
        )
    )
)
def test_sums_added_up_beside_the_events_are_those_of_the_events(counted: list[Counted]) -> None:
    """The one of the segment's bytes, the other of the figures from which they were written."""
    sums, data = Sums(), b""
    for at, (at_ms, tenant, key, deployment, version, rows, compute_us, input_bytes) in enumerate(counted):
        meters = {"requests": 1, "predictions": rows, "compute_us": compute_us, "input_bytes": input_bytes}
        frame = usage.encode(usage.UsageEvent(f"req_{at}", at_ms, tenant, key, deployment, version, meters))
        sums.add([counted[at]], len(frame))
        data += frame
    assert sums.size == len(data)
    assert sums.totals() == usage._totals_of(usage.Brought("s", data, None))


def test_sums_that_are_not_of_the_whole_segment_are_not_believed(acme: Account) -> None:
    at_ms = 1_790_000_000_000
    sums, event = Sums(), an_event(acme.tenant.pk, 1, at_ms)
    sums.add([(at_ms, acme.tenant.pk, "key_1", "cats", "cats@1", 999, 0, 0)], 1)
    usage.take_segments(producer="p1", segments=[usage.Brought("s1", usage.encode(event), None, sums)])
    with scoping.operator():
        row = UsageHour.objects.for_tenant(acme.tenant).get(meter="predictions")
        assert row.quantity == event.meters["predictions"]
