"""Shipping: what a dead process left, segments that are seen twice, and one that can never be taken."""

from pathlib import Path

import orjson
import pytest
from django.db.models import Sum

from inference.plane import shipping
from inference.plane.spool import Segment, Spool, frame
from tenants import scoping
from tenants.models import UsageHour, UsageProducer, UsageSegment
from tests.conftest import Account

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
    shipping.ship(closed[0], producer=own.producer)
    assert not closed[0].path.exists()
    assert requests() == 2
    closed[0].path.write_bytes(data)  # as after a crash between the commit and the removal
    shipping.ship(closed[0], producer=own.producer)
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
