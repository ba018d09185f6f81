"""When a key was last used: gathered without a query, written at most once a minute for a key."""

import time
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tenants import scoping
from tenants.keys import key_uses
from tenants.models import ApiKey
from tests.conftest import Account
from tests.tenants.test_api_keys import make

T0 = 1_800_000_000.0


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    for kept in (key_uses._noted, key_uses._written):
        kept.clear()


def last_used(account: Account, key_id: str) -> float | None:
    with scoping.tenant(account.tenant.pk):
        at = ApiKey.objects.for_tenant(account.tenant).get(pk=key_id).last_used_at
    return None if at is None else at.timestamp()


def test_a_use_is_written_once_a_minute(acme: Account) -> None:
    key_id = make(acme).row.pk
    for after, rows, written in ((0, 1, 0), (1, 0, 0), (59, 0, 0), (60, 1, 60), (61, 0, 60), (200, 1, 200)):
        key_uses.note(key_id, T0 + after)
        assert key_uses.write() == rows
        assert last_used(acme, key_id) == T0 + written
    assert key_uses.write() == 0


def test_another_process_writes_no_second_time_within_the_minute(acme: Account) -> None:
    key_id = make(acme).row.pk
    key_uses.note(key_id, T0)
    key_uses.write()
    key_uses._written.clear()  # as a process that has just begun
    key_uses.note(key_id, T0 + 59)
    assert key_uses.write() == 0
    assert last_used(acme, key_id) == T0


def test_many_keys_are_one_statement_and_none_is_none(acme: Account, globex: Account) -> None:
    ids = [make(account).row.pk for account in (acme, acme, globex)]
    for number, key_id in enumerate(ids):
        key_uses.note(key_id, T0 + number)
    key_uses.note("key_unknown", T0)
    with CaptureQueriesContext(
        connection,
    ) as made:
        assert key_uses.write() == 3
        assert key_uses.write() == 0
    assert len([one for one in made if "UPDATE" in one["sql"]]) == 1
    assert [last_used(acme, ids[0]), last_used(globex, ids[2])] == [T0, T0 + 2]


def test_what_could_not_be_written_is_written_later(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id = make(acme).row.pk
    key_uses.note(key_id, T0)
    with monkeypatch.context() as broken:
        broken.setattr(key_uses, "WRITE", "SELECT broken")
        with pytest.raises(DatabaseError):
            key_uses.write()
    assert key_uses.write() == 1
    assert last_used(acme, key_id) == T0


def test_what_is_written_is_forgotten_in_time(acme: Account) -> None:
    for number in range(3):
        key_uses.note(f"key_{number}", T0)
    key_uses.write()
    assert len(key_uses._written) == 3
    key_uses.note("key_9", T0 + 120)
    key_uses.write()
    assert set(key_uses._written) == {"key_9"}


def test_a_request_to_the_control_api_is_a_use(acme: Account) -> None:
    key, before = make(acme), time.time()
    client = APIClient()
    client.credentials(HTTP_X_API_KEY=key.text)
    assert client.get("/api/v1/me").status_code == 200
    assert last_used(acme, key.row.pk) is None  # not on the request's own way
    key_uses.write()
    client.credentials(HTTP_X_API_KEY=acme.key)
    shown = client.get(f"/api/v1/api-keys/{key.row.pk}").json()["last_used_at"]
    assert before <= datetime.fromisoformat(shown).astimezone(UTC).timestamp() <= time.time()


def test_a_key_that_is_refused_is_not_used(acme: Account) -> None:
    key = make(acme)
    with scoping.operator():
        ApiKey.across_tenants.filter(pk=key.row.pk).update(networks=["192.0.2.0/24"])
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=key.text).status_code == 401
    assert not key_uses._noted


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_writing_a_use_announces_nothing_and_revoking_does(acme: Account) -> None:
    """Else every use would have each plane read all that its tenant has."""
    key_id = make(acme).row.pk
    with connection.cursor() as cursor:
        cursor.execute("LISTEN directory")
        heard = connection.connection.notifies

        def announced() -> list[str]:
            cursor.execute("SELECT 1")
            found = [notice.payload for notice in heard]
            heard.clear()
            return found

        announced()
        key_uses.note(key_id, T0)
        assert key_uses.write() == 1
        assert announced() == []
        with scoping.operator():
            ApiKey.across_tenants.filter(pk=key_id).update(revoked_at=datetime.now(UTC))
        assert announced() == [acme.tenant.pk]
        cursor.execute("UNLISTEN directory")
