"""The archive: what the ledger took can be read again, and whatever happened to a file is seen."""

import gzip
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.utils import timezone

from tenants import scoping
from tenants.ledger import archive, usage
from tenants.models import UsageSegment
from tests.conftest import Account
from tests.tenants.test_usage import an_event, sums_of
from tests.threads import in_threads


def take(account: Account, number: int = 1) -> tuple[bytes, UsageSegment]:
    data = usage.encode(an_event(account.tenant.pk, number))
    usage.take_segment(segment_id=f"seg{number}", producer="p1", data=data, watermark=None)
    return data, UsageSegment.objects.get(pk=f"seg{number}")


def file_of(segment: UsageSegment) -> Path:
    return Path(default_storage.path(segment.archived_as))


def test_a_segment_that_was_taken_is_archived_as_it_was(acme: Account) -> None:
    data, segment = take(acme)
    assert archive.read(segment) == data
    assert gzip.decompress(file_of(segment).read_bytes()) == data  # with anybody's tools
    assert not list(file_of(segment).parent.glob(".*"))


def test_an_archived_file_that_is_no_longer_whole_is_named(acme: Account) -> None:
    _, segment = take(acme)
    path = file_of(segment)
    whole = path.read_bytes()
    for torn, says in (
        (whole[:-5], "cannot be read"),
        (b"", "sha256"),
        (b"nothing", "Not a gzipped file"),
        (gzip.compress(b"another"), "sha256"),
    ):
        path.write_bytes(torn)
        with pytest.raises(archive.Damaged, match=says):
            archive.read(segment)
    path.unlink()
    with pytest.raises(archive.Damaged, match="missing"):
        archive.read(segment)
    segment.archived_as = ""
    with pytest.raises(archive.Damaged, match="before segments were archived"):
        archive.read(segment)


def test_what_cannot_be_archived_is_not_taken(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: int) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            take(acme)
    assert not UsageSegment.objects.exists()
    assert sums_of(acme) == {}
    take(acme)
    assert sums_of(acme)["requests"] == 1


def test_a_file_of_a_transaction_that_failed_is_swept_a_day_later(acme: Account) -> None:
    archive_of_a_failed_try(an_event(acme.tenant.pk, 7))
    _, kept = take(acme)
    now = timezone.now()
    before = {path.name for path in Path(default_storage.path(archive.FOLDER)).rglob("*") if path.is_file()}
    assert archive.sweep(now=now) == 0
    assert archive.sweep(now=now + timedelta(days=2)) == len(before) - 1
    assert file_of(kept).exists()
    archive.read(kept)


def test_a_draft_that_a_crash_left_is_swept(acme: Account) -> None:
    _, kept = take(acme)
    draft = file_of(kept).with_name(f".{file_of(kept).name}.0badcafe")
    draft.write_bytes(b"half")
    archive.sweep(now=timezone.now() + timedelta(days=2))
    assert not draft.exists()
    archive.read(kept)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_file_that_is_being_taken_is_not_swept(acme: Account) -> None:
    """Its transaction is not committed, so no row names it; and it lies there from an earlier try."""
    event = an_event(acme.tenant.pk, 9)
    sha256 = archive_of_a_failed_try(event)
    name = f"{archive.FOLDER}/{sha256[:2]}/{sha256}.gz"
    assert default_storage.exists(name)
    swept: list[int] = []

    def sweep(_: int) -> None:
        swept.append(archive.sweep(now=timezone.now() + timedelta(days=2)))

    with transaction.atomic():
        usage.record(events=[event], producer="t1", segment_id="job_9")
        in_threads(sweep, 1)
        assert default_storage.exists(name)
    archive.read(UsageSegment.objects.get(pk="job_9"))
    with scoping.operator(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM tenants_usagesegment WHERE id = 'job_9'")
    in_threads(sweep, 1)
    assert not default_storage.exists(name)


def archive_of_a_failed_try(event: usage.UsageEvent) -> str:
    try:
        with transaction.atomic():
            usage.record(events=[event], producer="t1", segment_id="job_9")
            sha256 = UsageSegment.objects.get(pk="job_9").sha256
            raise RuntimeError
    except RuntimeError:
        return sha256


def test_any_storage_will_do(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no folder is asked to save and to open."""
    monkeypatch.setattr(archive, "FileSystemStorage", type("NoFolder", (), {}))
    data, segment = take(acme, 3)
    assert archive.read(segment) == data
