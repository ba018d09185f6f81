"""Stored files: kept once, erased wholly, and their byte-hours in the ledger, exactly."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from modelhub import storage
from modelhub.models import Blob, StorageAccrual
from modelhub.storage import accrual
from modelhub.storage.accrual import Change, byte_hours
from modelhub.trainer.runner import Trainer
from tenants import scoping
from tenants.ledger import producers, usage
from tenants.models import Meter, Plan, Tenant, UsageHour
from tests.conftest import Account
from tests.modelhub.places import places, stored_files
from tests.threads import in_threads

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
Capture = Callable[..., Any]


def put(tenant: Tenant, source: bytes | Path, now: datetime = START) -> storage.StoredBlob:
    with scoping.tenant(tenant.pk):
        return storage.put(tenant_id=tenant.pk, source=source, now=now)


def erase(tenant: Tenant, digest: str, now: datetime) -> None:
    with scoping.tenant(tenant.pk):
        storage.erase(tenant_id=tenant.pk, sha256=digest, now=now)


def billed(tenant: Tenant) -> dict[datetime, Decimal]:
    with scoping.tenant(tenant.pk):
        rows = UsageHour.objects.for_tenant(tenant).filter(meter=Meter.STORED_BYTE_HOURS).order_by("hour")
        return {row.hour: row.quantity for row in rows}


def rows_of(tenant: Tenant) -> int:
    with scoping.tenant(tenant.pk):
        return Blob.objects.for_tenant(tenant).count()


# --- put, open, read, erase -------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "far away"])
def kind(request: pytest.FixtureRequest, settings: Settings, places: Path) -> str:
    """A storage that is a folder, and one that is not."""
    if request.param == "far away":
        settings.STORAGES = settings.STORAGES | {
            "default": {"BACKEND": "django.core.files.storage.memory.InMemoryStorage"}
        }
    return str(request.param)


def test_what_was_put_is_read(acme: Account, places: Path, kind: str) -> None:
    content = bytes(range(256)) * 5000
    path = places / "given"
    path.write_bytes(content)
    for source in (content, path):
        blob = put(acme.tenant, source)
        assert (blob.sha256, blob.size) == (sha256(content).hexdigest(), len(content))
    where = {"tenant_id": acme.tenant.pk, "sha256": blob.sha256}
    assert storage.read(**where) == content
    with storage.open(**where) as opened:
        assert opened.read(10) == content[:10]
    for _ in range(2):
        assert storage.local_path(**where).read_bytes() == content
    assert path.read_bytes() == content
    assert rows_of(acme.tenant) == 1


def test_the_same_content_is_stored_once(acme: Account, places: Path) -> None:
    blob = put(acme.tenant, b"content", START)
    put(acme.tenant, b"content", START + HOUR)
    assert stored_files(places) == {blob.sha256}
    assert (places / f"files/tenants/{acme.tenant.pk}/{blob.sha256[:2]}/{blob.sha256}").is_file()
    with scoping.tenant(acme.tenant.pk):
        assert Blob.objects.for_tenant(acme.tenant).get().stored_at == START
        assert storage.held(tenant_id=acme.tenant.pk) == 7


def test_a_file_that_was_lost_is_mended_by_the_same_content(acme: Account, places: Path) -> None:
    blob = put(acme.tenant, b"content")
    stored = places / f"files/tenants/{acme.tenant.pk}/{blob.sha256[:2]}/{blob.sha256}"
    stored.unlink()
    with pytest.raises(FileNotFoundError):
        storage.read(tenant_id=acme.tenant.pk, sha256=blob.sha256)
    put(acme.tenant, b"content")
    assert storage.read(tenant_id=acme.tenant.pk, sha256=blob.sha256) == b"content"


def test_an_empty_file_is_a_file(acme: Account) -> None:
    assert storage.read(tenant_id=acme.tenant.pk, sha256=put(acme.tenant, b"").sha256) == b""


def test_what_was_erased_is_gone(
    acme: Account, globex: Account, places: Path, kind: str, django_capture_on_commit_callbacks: Capture
) -> None:
    blob, other = put(acme.tenant, b"content"), put(acme.tenant, b"other")
    theirs = put(globex.tenant, b"content")
    storage.local_path(tenant_id=acme.tenant.pk, sha256=blob.sha256)
    with django_capture_on_commit_callbacks(execute=True):
        erase(acme.tenant, blob.sha256, START + HOUR)
        erase(acme.tenant, "0" * 64, START + HOUR)
    with pytest.raises(FileNotFoundError):
        storage.read(tenant_id=acme.tenant.pk, sha256=blob.sha256)
    assert storage.read(tenant_id=acme.tenant.pk, sha256=other.sha256) == b"other"
    assert storage.read(tenant_id=globex.tenant.pk, sha256=theirs.sha256) == b"content"
    assert not [path for path in (places / "scratch").rglob("*") if path.is_file()]


def test_a_file_is_erased_only_once_that_is_committed(
    acme: Account, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    blob = put(acme.tenant, b"content")
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        erase(acme.tenant, blob.sha256, START + HOUR)
        transaction.set_rollback(True)
    assert stored_files(places) == {blob.sha256}


def test_what_is_stored_again_before_it_was_removed_stays(
    acme: Account, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        blob = put(acme.tenant, b"content")
        erase(acme.tenant, blob.sha256, START + HOUR)
        put(acme.tenant, b"content", START + 2 * HOUR)
    assert stored_files(places) == {blob.sha256}
    assert rows_of(acme.tenant) == 2


def test_nothing_waits_in_the_storage_after_a_failed_put(
    acme: Account, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modelhub.storage.files.move_in", failing)
    with pytest.raises(OSError, match="No space"):
        put(acme.tenant, b"content")
    assert not stored_files(places)
    assert rows_of(acme.tenant) == 0


def test_threads_stage_the_same_content_once(acme: Account, places: Path) -> None:
    contents = [bytes([n]) * 50_000 for n in range(20)]
    with scoping.tenant(acme.tenant.pk), storage.Staging(tenant_id=acme.tenant.pk) as staging:
        threads = [threading.Thread(target=lambda: [staging.add(c) for c in contents]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        staging.store(now=START)
    for content in contents:
        digest = sha256(content).hexdigest()
        assert storage.read(tenant_id=acme.tenant.pk, sha256=digest) == content
    assert rows_of(acme.tenant) == len(stored_files(places)) == 20


# --- byte-hours -------------------------------------------------------------------------------------------------------


def test_byte_hours_are_split_at_the_hour() -> None:
    got = byte_hours(held=1000, changes=[Change(START + 2.5 * HOUR, 500)], start=START + HOUR / 2, end=START + 3 * HOUR)
    assert got == {START: 500, START + HOUR: 1000, START + 2 * HOUR: 1250}


def test_hours_without_bytes_are_left_out() -> None:
    changes = [Change(START + HOUR, 100), Change(START + 2 * HOUR, -100)]
    assert byte_hours(held=0, changes=changes, start=START, end=START + 5 * HOUR) == {START + HOUR: 100}
    assert byte_hours(held=5, changes=[], start=START, end=START) == {}


def test_twelve_places_are_kept_of_any_number() -> None:
    [quantity] = byte_hours(held=2**60, changes=[], start=START, end=START + timedelta(microseconds=1)).values()
    exact = Fraction(2**60, 3_600_000_000)
    assert abs(Fraction(quantity) - exact) <= Fraction(1, 2 * 10**12)
    assert quantity.as_tuple().exponent == -12


moments = st.integers(0, 5 * 3600).map(lambda s: timedelta(seconds=s, microseconds=s * 7919 % 1_000_000))
files_over_time = st.lists(st.tuples(st.integers(0, 10**12), moments, st.none() | moments), max_size=12)


def overlap(a: datetime, b: datetime, start: datetime, end: datetime) -> Fraction:
    seconds = min(b, end) - max(a, start)
    return Fraction(max(seconds, timedelta(0)) // timedelta(microseconds=1), 3_600_000_000)


@settings(deadline=None)
@given(files=files_over_time, since=moments, lasting=moments)
def test_byte_hours_are_the_sum_over_files_of_size_and_time(
    files: list[tuple[int, timedelta, timedelta | None]], since: timedelta, lasting: timedelta
) -> None:
    start, end = START + since, START + since + lasting
    lives = [(size, START + stored, None if kept is None else START + stored + kept) for size, stored, kept in files]
    held = sum(size for size, stored, erased in lives if stored <= start and (erased is None or erased > start))
    changes = [Change(stored, size) for size, stored, _ in lives if start < stored <= end]
    changes += [Change(erased, -size) for size, _, erased in lives if erased is not None and start < erased <= end]
    got = byte_hours(held=held, changes=changes, start=start, end=end)
    for number in range(12):
        hour = START + number * HOUR
        exact = sum(
            (
                size * overlap(max(stored, start), min(erased or end, end), hour, hour + HOUR)
                for size, stored, erased in lives
            ),
            Fraction(0),
        )
        assert abs(Fraction(got.get(hour, Decimal(0))) - exact) <= Fraction(1, 2 * 10**12)
    assert set(got) <= {START + number * HOUR for number in range(12)}


def test_what_is_stored_is_billed_by_the_hour(acme: Account, globex: Account) -> None:
    blob = put(acme.tenant, b"x" * 1000, START + HOUR / 4)
    put(globex.tenant, b"y" * 10, START)
    assert storage.accrue(now=START + HOUR / 2) == 2
    assert billed(acme.tenant) == {START: 250}
    erase(acme.tenant, blob.sha256, START + 2 * HOUR + HOUR / 2)
    assert storage.accrue(now=START + 4 * HOUR) == 2
    assert billed(acme.tenant) == {START: 750, START + HOUR: 1000, START + 2 * HOUR: 500}
    assert billed(globex.tenant) == {START + number * HOUR: 10 for number in range(4)}
    assert rows_of(acme.tenant) == 0, "an erased row is removed once it is accounted for"
    assert rows_of(globex.tenant) == 1


def test_a_second_accrual_of_the_same_time_adds_nothing(acme: Account) -> None:
    put(acme.tenant, b"x" * 1000)
    assert [storage.accrue(now=START + HOUR) for _ in range(3)] == [1, 0, 0]
    assert storage.accrue(now=START) == 0
    assert billed(acme.tenant) == {START: 1000}


def test_an_accrual_that_was_overtaken_changes_nothing(acme: Account) -> None:
    put(acme.tenant, b"x" * 1000)
    storage.accrue(now=START + HOUR)
    assert not accrual._accrue(tenant_id=acme.tenant.pk, since=START, now=START + 2 * HOUR)
    storage.accrue(now=START + 3 * HOUR)
    assert billed(acme.tenant) == {START + number * HOUR: 1000 for number in range(3)}


def test_who_stores_nothing_is_billed_nothing(acme: Account) -> None:
    blob = put(acme.tenant, b"x" * 1000)
    erase(acme.tenant, blob.sha256, START)
    assert storage.accrue(now=START + HOUR) == 0
    assert billed(acme.tenant) == {}
    put(acme.tenant, b"x" * 1000, START + 2 * HOUR)
    assert storage.accrue(now=START + 3 * HOUR) == 1
    assert billed(acme.tenant) == {START + 2 * HOUR: 1000}


def test_a_long_pause_is_made_up_for(acme: Account) -> None:
    put(acme.tenant, b"x" * 1000)
    storage.accrue(now=START + timedelta(days=40))
    assert billed(acme.tenant) == {START + number * HOUR: 1000 for number in range(40 * 24)}


@pytest.mark.parametrize(("seconds", "expected"), [(60.0, 60.0), (7 * 86_400.0, 3600.0)])
def test_stored_bytes_are_sampled_hourly_at_least(
    seconds: float, expected: float, acme: Account, settings: Settings
) -> None:
    """Whatever the setting says; what was stored while no trainer ran is made up for at the first look."""
    settings.STORAGE_ACCRUAL_SECONDS = seconds
    put(acme.tenant, b"x" * 1000, timezone.now() - 50 * HOUR)
    trainer = Trainer()
    with mock.patch.object(time, "monotonic", return_value=1000.0):
        trainer._accrue()
    assert trainer._accrue_at == 1000 + expected
    hours = billed(acme.tenant)
    assert len(hours) in (50, 51)
    assert all(quantity == 1000 for quantity in sorted(hours.values())[2:])


def test_a_change_counts_from_where_the_ledger_stands(acme: Account) -> None:
    """A transaction that took its time before an accrual and commits after it: no moment is lost or billed twice."""
    first = put(acme.tenant, b"x" * 1000)
    storage.accrue(now=START + HOUR)
    put(acme.tenant, b"y" * 500, START + HOUR / 2)
    erase(acme.tenant, first.sha256, START + HOUR / 2)
    storage.accrue(now=START + 2 * HOUR)
    assert billed(acme.tenant) == {START: 1000, START + HOUR: 500}
    with scoping.tenant(acme.tenant.pk):
        assert Blob.objects.for_tenant(acme.tenant).get().stored_at == START + HOUR, "the rows say what was billed"


steps = st.lists(
    st.tuples(st.sampled_from(["put", "erase", "accrue"]), st.integers(0, 3), st.integers(1, 5000)), max_size=25
)


@pytest.mark.django_db
@settings(max_examples=30, deadline=None)
@given(steps=steps)
def test_whatever_happens_the_ledger_holds_the_integral(steps: list[tuple[str, int, int]]) -> None:
    with transaction.atomic():
        with scoping.operator():
            tenant = Tenant.objects.create(name="anybody", plan=Plan.objects.get(code="standard"))
        exact, live, now = Fraction(0), dict[str, int](), START
        for verb, which, seconds in [*steps, ("accrue", 0, 1)]:
            later = now + timedelta(seconds=seconds, microseconds=which * 333_331)
            exact += sum(live.values()) * Fraction((later - now) // timedelta(microseconds=1), 3_600_000_000)
            now = later
            content = bytes([which]) * (which * 1013 + 1)
            digest = sha256(content).hexdigest()
            if verb == "put":
                put(tenant, content, now)
                live[digest] = len(content)
            elif verb == "erase":
                erase(tenant, digest, now)
                live.pop(digest, None)
            else:
                storage.accrue(now=now)
        total = sum((Fraction(quantity) for quantity in billed(tenant).values()), Fraction(0))
        accruals = sum(verb == "accrue" for verb, _, _ in steps) + 1
        assert abs(total - exact) <= (accruals + 40) * Fraction(1, 10**12)
        transaction.set_rollback(True)


def test_a_file_that_a_crash_left_is_removed_with_its_row(acme: Account, places: Path) -> None:
    blob = put(acme.tenant, b"content")
    erase(acme.tenant, blob.sha256, START + HOUR)  # the commit that would remove the file never comes in this test
    assert stored_files(places) == {blob.sha256}
    storage.accrue(now=START + 2 * HOUR)
    assert not stored_files(places)
    assert rows_of(acme.tenant) == 0


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_several_processes_that_accrue_at_once_bill_once(acme: Account) -> None:
    put(acme.tenant, b"x" * 1000)
    in_threads(lambda _: [storage.accrue(now=START + n * HOUR / 10) for n in range(1, 21)], 4)
    assert billed(acme.tenant) == {START: 1000, START + HOUR: 1000}
    with scoping.operator():
        assert StorageAccrual.objects.get(tenant=acme.tenant).until == START + 2 * HOUR


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_storing_and_erasing_the_same_content_at_once_keeps_rows_and_files_together(
    acme: Account, places: Path
) -> None:
    digest = sha256(b"content").hexdigest()

    def work(number: int) -> None:
        for turn in range(15):
            now = START + timedelta(seconds=turn)
            put(acme.tenant, b"content", now) if number % 2 else erase(acme.tenant, digest, now)
        connection.close()

    in_threads(work, 4)
    with scoping.tenant(acme.tenant.pk):
        live = Blob.objects.for_tenant(acme.tenant).filter(erased_at=None).count()
    assert live in (0, 1)
    assert stored_files(places) == ({digest} if live else set())


def test_a_period_is_held_open_until_the_ledger_knows_what_was_stored_in_it(acme: Account) -> None:
    put(acme.tenant, b"x" * 10)
    assert [each.producer for each in usage.blocking(START + HOUR)] == ["storage"]
    storage.accrue(now=START + HOUR + producers.GRACE)
    assert usage.blocking(START + HOUR) == []
