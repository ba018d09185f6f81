"""Shipping: what a dead process left, segments that are seen twice, and one that can never be taken."""

import shutil
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum
from django.utils import timezone
from pytest_django.fixtures import Settings

from inference.plane import shipping
from inference.plane.spool import Idle, Segment, Spool, frame
from tenants import scoping
from tenants.ledger import usage
from tenants.models import RejectedSegment, Tenant, UsageHour, UsageProducer, UsageSegment
from tests.conftest import Account
from tests.foreground import until
from tests.threads import in_threads

AT_MS = 1_790_000_000_000


def event(account: Account, number: int) -> bytes:
    meters = {"requests": 1, "predictions": 2, "compute_us": 1500, "input_bytes": 10}
    return frame(orjson.dumps([f"id-{number}", AT_MS, account.tenant.pk, "key_a", "cats", "cats@1", meters]))


def spool(root: Path, closed: list[Segment]) -> Spool:
    return Spool(root, durable=False, in_flight_seconds=30, closed=closed.append)


def requests() -> int:
    with scoping.operator():
        found = UsageHour.across_tenants.filter(meter="requests").aggregate(total=Sum("quantity"))
    return int(found["total"] or 0)


def test_a_shipped_segment_leaves_the_disk_and_counts_once(acme: Account, tmp_path: Path) -> None:
    closed: list[Segment] = []
    own = spool(tmp_path, closed)
    own.append(event(acme, 1) + event(acme, 2))
    own.rotate()
    data = closed[0].path.read_bytes()
    shipping.ship(closed, producer=own.producer)
    assert not closed[0].path.exists()
    assert requests() == 2
    closed[0].path.write_bytes(data)  # as after a crash between the commit and the removal
    shipping.ship(closed, producer=own.producer)
    assert requests() == 2


def test_a_dead_producers_torn_tail_is_cut(acme: Account, tmp_path: Path) -> None:
    closed: list[Segment] = []
    dead = spool(tmp_path, closed)
    dead.append(event(acme, 1))
    dead.rotate()
    dead.append(event(acme, 2))
    (current,) = dead.folder.glob("*.open")
    with current.open("ab") as file:
        file.write(event(acme, 3)[:-1])
    assert shipping.adopt_dead(tmp_path) == 0  # it lives
    dead.release()
    assert shipping.adopt_dead(tmp_path) == 1
    assert requests() == 2
    assert list(tmp_path.iterdir()) == []
    with scoping.operator():
        assert UsageProducer.objects.get(pk=dead.producer).drained_at is not None
        assert UsageSegment.objects.filter(producer=dead.producer).count() == 2


def test_a_segment_that_can_never_be_taken_is_put_aside(
    acme: Account, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[Segment] = []
    dead = spool(tmp_path, closed)
    for payload in (frame(b'"no event"'), event(acme, 1)):
        dead.append(payload)
        dead.rotate()
    dead.release()
    assert shipping.adopt_dead(tmp_path) == 1
    assert requests() == 1
    assert [path.suffix for path in dead.folder.iterdir()] == [shipping.REJECTED]
    assert "an operator must look at it" in caplog.text
    assert shipping.adopt_dead(tmp_path) == 0
    row = RejectedSegment.objects.get()
    assert (row.producer, Path(row.path).exists()) == (dead.producer, True)
    assert "no event" in row.reason
    assert dead.producer in [one.producer for one in usage.blocking(timezone.now())]


@pytest.mark.parametrize(
    ("key", "at_ms", "quantity"),
    [
        ("k" * 33, AT_MS, 1),
        ("nul\0", AT_MS, 1),
        ("key", 2**60, 1),
        ("key", AT_MS, "1e40"),
        ("key", AT_MS, -1),
        ("key", AT_MS, "NaN"),
        ("key", AT_MS, 0.5),
    ],
)
def test_an_event_that_fits_no_column_rejects_its_segment_and_holds_up_no_other(
    key: str, at_ms: int, quantity: object, acme: Account, tmp_path: Path
) -> None:
    dead = spool(tmp_path, [])
    unfit = ["id-1", at_ms, acme.tenant.pk, key, "cats", "cats@1", {"requests": quantity}]
    for written in (frame(orjson.dumps(unfit)), event(acme, 2)):
        dead.append(written)
        dead.rotate()
    dead.release()
    shipping.adopt_dead(tmp_path)
    assert requests() == 1
    assert RejectedSegment.objects.count() == 1


def test_a_rejected_segment_is_tried_again_by_the_operator(acme: Account, tmp_path: Path, settings: Settings) -> None:
    """It named a tenant that the database did not have, say one that was restored from too old a backup."""
    settings.SPOOL_DIR = str(tmp_path)
    dead = spool(tmp_path, [])
    tenant = acme.tenant
    with scoping.operator():
        payload = orjson.dumps(["id-1", AT_MS, "ten_later", "key_a", "cats", "cats@1", {"requests": 1}])
        dead.append(frame(payload))
        dead.rotate()
    dead.release()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at a commit, which this test never reaches
    shipping.adopt_dead(tmp_path)
    (segment,) = RejectedSegment.objects.values_list("pk", flat=True)
    with pytest.raises(CommandError, match="still cannot take it"):
        call_command("retry_segment", segment)
    with scoping.operator():
        Tenant.objects.create(id="ten_later", name="later", plan=tenant.plan)
    out = StringIO()
    call_command("retry_segment", segment, stdout=out)
    assert f"{segment} is in the ledger now" in out.getvalue()
    assert requests() == 1
    assert not RejectedSegment.objects.exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CommandError, match="no rejected segment"):
        call_command("retry_segment", segment)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_an_idle_producer_is_heard_of_and_its_watermark_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(shipping, "RETRY_SECONDS", 0.05)
    shipper = shipping.Shipper(tmp_path, producer="p1")
    shipper.open()
    UsageProducer.objects.update(watermark=None, seen_at=None)
    shipper.start()
    for seconds in (60, 50):
        at = timezone.now() - timedelta(seconds=seconds)
        shipper.put(Idle(at.timestamp()))
        until(lambda at=at: UsageProducer.objects.filter(watermark__gte=at - timedelta(seconds=1)).exists())  # type: ignore[misc]
    assert UsageProducer.objects.get().seen_at is not None
    shipper.stop()
    assert UsageProducer.objects.get().drained_at is not None


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_watermark_waits_for_the_segments_before_it(
    acme: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word that all is closed says nothing while a segment of before cannot be shipped."""
    monkeypatch.setattr(shipping, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(shipping, "RETRY_SECONDS", 0.05)
    closed: list[Segment] = []
    own = spool(tmp_path, closed)
    own.append(event(acme, 1))
    own.rotate()
    hidden = closed[0].path.rename(tmp_path / "hidden")
    shipper = shipping.Shipper(tmp_path, producer=own.producer)
    shipper.open()
    UsageProducer.objects.update(watermark=None)
    shipper.start()
    shipper.put(closed[0])
    shipper.put(Idle(timezone.now().timestamp()))
    time.sleep(0.5)
    assert UsageProducer.objects.get().watermark is None
    hidden.rename(closed[0].path)
    until(lambda: UsageProducer.objects.filter(watermark__isnull=False).exists())
    assert requests() == 1
    shipper.stop()


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_segment_is_taken_once_though_several_ship_it_at_once(acme: Account, tmp_path: Path) -> None:
    closed: list[Segment] = []
    own = spool(tmp_path, closed)
    for number in range(20):
        own.append(event(acme, number))
        own.rotate()
    copies = [[Segment(s.id, tmp_path / f"{n}" / s.path.name, s.complete_before) for s in closed] for n in range(4)]
    for segments in copies:
        for segment, original in zip(segments, closed, strict=True):
            segment.path.parent.mkdir(exist_ok=True)
            shutil.copy(original.path, segment.path)

    def ship(number: int) -> None:
        mine = copies[number] if number % 2 else copies[number][::-1]
        for first in range(0, len(mine), 3 + number):
            shipping.ship(mine[first : first + 3 + number], producer=own.producer)

    in_threads(ship, 4)
    assert requests() == 20
    assert UsageSegment.objects.count() == 20
