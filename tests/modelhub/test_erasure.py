"""Data keys: every stored file is encrypted; with a tenant's key goes all that it has stored, wherever copies lie."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import storage
from modelhub.models import DataKey
from modelhub.storage import files, keys
from tenants import scoping
from tenants.errors import Conflict
from tenants.models import AuditEvent
from tests.conftest import Account
from tests.modelhub.calls import DATASETS, live_digests, sealed, shown
from tests.modelhub.places import places, scratch_files, stored_files
from tests.threads import in_threads

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

Capture = Callable[..., Any]
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SECRET = b"what nobody else shall read " * 20_000


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key that another test has left in this process."""
    monkeypatch.setattr(keys, "_known", {})


def put(account: Account, content: bytes = SECRET) -> str:
    with scoping.tenant(account.tenant.pk):
        return storage.put(tenant_id=account.tenant.pk, source=content, now=NOW).sha256


def file_of(account: Account, sha256: str, places: Path) -> Path:
    return places / "files" / files.name_of(tenant_id=account.tenant.pk, sha256=sha256)


def test_a_stored_file_is_encrypted_and_its_copy_is_not(acme: Account, places: Path) -> None:
    sha256 = put(acme)
    assert SECRET[:20] not in file_of(acme, sha256, places).read_bytes()
    copy = storage.local_path(tenant_id=acme.tenant.pk, sha256=sha256)
    assert copy.read_bytes() == SECRET
    assert copy.is_relative_to(places / "scratch")
    assert copy.stat().st_mode & 0o077 == 0
    with scoping.operator():
        row = DataKey.objects.get(tenant=acme.tenant)
    assert bytes(row.wrapped)
    assert keys.of(acme.tenant.pk) not in (None, bytes(row.wrapped))


def test_a_batch_that_is_not_stored_yet_is_read(acme: Account) -> None:
    with scoping.tenant(acme.tenant.pk), storage.Staging(tenant_id=acme.tenant.pk) as staging:
        blob = staging.add(SECRET)
        assert SECRET[:20] not in (staging.folder / blob.sha256).read_bytes()
        with staging.open(blob.sha256) as content:
            assert content.read() == SECRET


def test_a_file_at_anothers_place_is_not_read(acme: Account, globex: Account, places: Path) -> None:
    mine, theirs = put(acme), put(globex)
    assert mine == theirs
    file_of(globex, theirs, places).write_bytes(file_of(acme, mine, places).read_bytes())
    with pytest.raises(storage.Damaged):
        storage.read(tenant_id=globex.tenant.pk, sha256=theirs)
    assert storage.read(tenant_id=acme.tenant.pk, sha256=mine) == SECRET


def test_a_file_from_before_there_were_keys_is_read(acme: Account, places: Path) -> None:
    sha256 = put(acme)
    file_of(acme, sha256, places).write_bytes(SECRET)
    with scoping.operator():
        DataKey.objects.all().delete()
    assert storage.read(tenant_id=acme.tenant.pk, sha256=sha256) == SECRET
    assert storage.local_path(tenant_id=acme.tenant.pk, sha256=sha256).read_bytes() == SECRET


def test_with_another_master_key_nothing_is_read(acme: Account, settings: Settings) -> None:
    sha256 = put(acme)
    settings.MASTER_KEY = "another"
    with pytest.raises(storage.Damaged, match="master key"):
        storage.read(tenant_id=acme.tenant.pk, sha256=sha256)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_whoever_stores_first_at_once_uses_one_key(acme: Account) -> None:
    digests: list[tuple[str, bytes]] = []

    def store(number: int) -> None:
        content = bytes([number]) * 1000
        digests.append((put(acme, content), content))

    in_threads(store, 4)
    assert len(digests) == 4
    for sha256, content in digests:
        assert storage.read(tenant_id=acme.tenant.pk, sha256=sha256) == content


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_key_of_a_transaction_that_failed_is_not_believed(acme: Account) -> None:

    def store_and_fail() -> None:
        with scoping.tenant(acme.tenant.pk):
            storage.put(tenant_id=acme.tenant.pk, source=b"lost", now=NOW)
            assert keys.of(acme.tenant.pk)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_and_fail()
    assert keys.of(acme.tenant.pk) is None
    sha256 = put(acme)
    assert storage.read(tenant_id=acme.tenant.pk, sha256=sha256) == SECRET
    known = keys.of(acme.tenant.pk)
    assert known
    assert acme.tenant.pk in keys._known


def test_a_copy_that_nobody_asked_for_in_a_day_goes(
    acme: Account, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, used = put(acme), put(acme, b"used")
    for sha256 in (old, used):
        copy = storage.local_path(tenant_id=acme.tenant.pk, sha256=sha256)
        changed = copy.stat().st_mtime_ns
        os.utime(copy, ns=(time.time_ns() - 25 * 3600 * 10**9, changed))
    assert storage.local_path(tenant_id=acme.tenant.pk, sha256=used).stat().st_mtime_ns == changed
    monkeypatch.setattr(files, "_copies_removed_at", [-files.SECONDS_BETWEEN_REMOVALS])
    storage.local_path(tenant_id=acme.tenant.pk, sha256=put(acme, b"new"))
    assert {path.read_bytes() for path in scratch_files(places)} == {b"used", b"new"}
    assert storage.local_path(tenant_id=acme.tenant.pk, sha256=old).read_bytes() == SECRET


def test_an_erased_tenant_leaves_nothing_that_can_be_read(
    acme: Account,
    globex: Account,
    acme_client: APIClient,
    globex_client: APIClient,
    places: Path,
    capsys: Any,
    django_capture_on_commit_callbacks: Capture,
) -> None:
    dataset, theirs = sealed(acme_client), sealed(globex_client)
    sha256 = put(acme)
    backup = file_of(acme, sha256, places).read_bytes()
    with django_capture_on_commit_callbacks(execute=True):
        call_command("erase_tenant", "acme", "--yes", "acme")
    assert "1 data sets" in capsys.readouterr().out
    assert stored_files(places) == live_digests(globex)
    assert not scratch_files(places)
    assert live_digests(acme) == set()
    assert acme_client.get(f"{DATASETS}/{dataset}").status_code in (401, 403)
    file_of(acme, sha256, places).parent.mkdir(parents=True, exist_ok=True)
    file_of(acme, sha256, places).write_bytes(backup)
    with pytest.raises(storage.Damaged, match="destroyed"):
        storage.read(tenant_id=acme.tenant.pk, sha256=sha256)
    with pytest.raises(Conflict, match="destroyed"):
        put(acme, b"more")
    with scoping.operator():
        assert bytes(DataKey.objects.get(tenant=acme.tenant).wrapped) == b""
        event = AuditEvent.across_tenants.get(verb="tenant.erase")
    assert (event.tenant_id, event.detail["datasets"]) == (acme.tenant.pk, 1)
    assert shown(globex_client, theirs)["state"] == "sealed"
    call_command("erase_tenant", "acme", "--yes", "acme")
    assert "0 data sets and 0 more files" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("acme",), ("acme", "--yes", "globex"), ("initech", "--yes", "initech")])
def test_who_is_to_be_erased_must_be_said_twice(acme: Account, acme_client: APIClient, arguments: Any) -> None:
    dataset = sealed(acme_client)
    with pytest.raises(CommandError):
        call_command("erase_tenant", *arguments)
    assert shown(acme_client, dataset)["state"] == "sealed"


def test_a_key_that_is_destroyed_is_forgotten_within_a_minute(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    put(acme)
    known = keys.of(acme.tenant.pk)
    assert known
    monkeypatch.setattr(keys, "_known", {acme.tenant.pk: (known, time.monotonic() + keys.KNOWN_SECONDS)})
    with scoping.operator():
        DataKey.objects.update(wrapped=b"", destroyed_at=NOW + timedelta(days=1))
    assert keys.of(acme.tenant.pk) == known
    later = time.monotonic() + keys.KNOWN_SECONDS + 1
    monkeypatch.setattr("modelhub.storage.keys.time.monotonic", lambda: later)
    assert keys.of(acme.tenant.pk) is None


def test_the_operator_sees_that_a_key_is_there_and_not_the_key(acme: Account, admin_client: Client) -> None:
    put(acme)
    page = admin_client.get(f"/admin/modelhub/datakey/{acme.tenant.pk}/change/")
    assert page.status_code == 200
    assert "wrapped" not in page.content.decode().lower()
