"""The audit trail: who did what from where, linked row by row, and what tampering looks like."""

import contextlib
import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from aiaas_site import embedded_database
from tenants import accounts, audit, audit_chain, origin, scoping
from tenants.audit_chain import Chain
from tenants.models import AuditEvent, AuditHead, Plan, Tenant
from tests.conftest import Account, open_account
from tests.live import LiveSite, live_site
from tests.threads import in_threads

EVENTS = "/api/v1/audit-events"


def link_now() -> None:
    """What a commit does; these tests run in a transaction that is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def chain_of(tenant: Tenant) -> Chain:
    with scoping.operator():
        return audit_chain.verify(tenant=tenant)


def record(tenant: Tenant, *, verb: str = "cat.feed", subject: str = "tom", **detail: Any) -> None:
    with scoping.tenant(tenant.pk):
        audit.record(tenant=tenant, actor="test", verb=verb, subject=subject, **detail)


# The chain


def test_each_tenant_has_a_chain_of_its_own(acme: Account, globex: Account) -> None:
    for account in (acme, globex, acme):
        record(account.tenant)
    link_now()
    with scoping.operator():
        for account in (acme, globex):
            rows = list(AuditEvent.objects.for_tenant(account.tenant).order_by("sequence"))
            assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
            assert [row.previous_hash for row in rows] == ["", *(row.hash for row in rows[:-1])]
            head = AuditHead.objects.for_tenant(account.tenant).get()
            assert (head.sequence, head.hash) == (len(rows), rows[-1].hash)
            assert chain_of(account.tenant) == Chain(len(rows), rows[-1].hash)


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
DETAILS = st.dictionaries(TEXTS, TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subject=TEXTS, detail=DETAILS, agent=TEXTS)
def test_whatever_a_row_says_both_sides_write_it_alike(
    acme: Account, subject: str, detail: dict[str, Any], agent: str
) -> None:
    with origin.set_to(origin.Origin(user_agent=agent, address="192.0.2.1")), scoping.tenant(acme.tenant.pk):
        audit.record(tenant=acme.tenant, actor="test", verb="cat.feed", subject=subject, values=detail)
    link_now()
    assert chain_of(acme.tenant).fault == ""


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_concurrent_writers_keep_the_chain_whole() -> None:
    accounts_there_are = [open_account("acme"), open_account("globex")]
    before = [chain_of(account.tenant).rows for account in accounts_there_are]

    def work(number: int) -> None:
        tenants = [account.tenant for account in accounts_there_are]
        for turn in range(5):
            # Both tenants in one transaction, in either order: commits must not wait for each other in a circle.
            with scoping.operator():
                for tenant in tenants if (number + turn) % 2 else reversed(tenants):
                    audit.record(tenant=tenant, actor="test", verb="cat.feed", subject=f"{number}/{turn}")

    in_threads(work, 8)
    for account, rows in zip(accounts_there_are, before, strict=True):
        chain = chain_of(account.tenant)
        assert (chain.fault, chain.rows) == ("", rows + 40)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_verbs_that_lock_after_they_recorded_do_not_wait_in_a_circle() -> None:
    """Each thread records first and locks a row afterwards, which another one holds: the heads are taken last."""
    account = open_account("acme")

    def work(number: int) -> None:
        for turn in range(10):
            with scoping.operator():
                if (number + turn) % 2:
                    Tenant.objects.select_for_update(no_key=True).get(pk=account.tenant.pk)
                    audit.record(tenant=account.tenant, actor="test", verb="cat.feed", subject="tom")
                else:
                    audit.record(tenant=account.tenant, actor="test", verb="cat.feed", subject="tom")
                    Tenant.objects.select_for_update(no_key=True).get(pk=account.tenant.pk)

    in_threads(work, 6)
    assert chain_of(account.tenant).fault == ""


def test_a_verb_that_is_undone_leaves_no_row_and_no_gap(acme: Account) -> None:
    link_now()
    before = chain_of(acme.tenant)
    with transaction.atomic():
        record(acme.tenant)
        link_now()
        transaction.set_rollback(True)
    assert chain_of(acme.tenant) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditevent SET actor = 'nobody'",
        "UPDATE tenants_auditevent SET sequence = sequence + 100",
        "UPDATE tenants_auditevent SET sequence = NULL, hash = ''",
        "DELETE FROM tenants_auditevent",
        (
            "INSERT INTO tenants_auditevent (id, tenant_id, at, actor, verb, subject, detail, address, forwarded_for,"
            " user_agent, request_id, sequence, previous_hash, hash) SELECT 'aud_x', tenant_id, at, actor, verb,"
            " subject, detail, '', '', '', '', 99, '', hash FROM tenants_auditevent LIMIT 1"
        ),
    ],
)
def test_the_application_can_only_add(statement: str, acme: Account) -> None:
    link_now()
    with (
        pytest.raises(DatabaseError, match="never changed"),
        transaction.atomic(),
        scoping.operator(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


# Tampering: a superuser with the triggers switched off


@pytest.fixture
def own_site() -> Iterator[LiveSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        site.manage("create_tenant", "acme", "--owner", "ann@acme.example")
        site.manage("create_tenant", "globex")
        for name in ("one", "two", "three", "four"):
            site.manage("create_api_key", "acme", "--name", name, "--scopes", "read")
        yield site


TAMPERINGS = {
    "actor": ("UPDATE tenants_auditevent SET actor = 'nobody' WHERE {third}", "number 3,"),
    "verb": ("UPDATE tenants_auditevent SET verb = 'cat.feed' WHERE {third}", "number 3,"),
    "subject": ("UPDATE tenants_auditevent SET subject = 'x' WHERE {third}", "number 3,"),
    "detail": ("UPDATE tenants_auditevent SET detail = '{{}}' WHERE {third}", "number 3,"),
    "at": ("UPDATE tenants_auditevent SET at = at - interval '1 microsecond' WHERE {third}", "number 3,"),
    "address": ("UPDATE tenants_auditevent SET address = '192.0.2.9' WHERE {third}", "number 3,"),
    "forwarded_for": ("UPDATE tenants_auditevent SET forwarded_for = '192.0.2.9' WHERE {third}", "number 3,"),
    "user_agent": ("UPDATE tenants_auditevent SET user_agent = 'curl' WHERE {third}", "number 3,"),
    "request_id": ("UPDATE tenants_auditevent SET request_id = 'req_x' WHERE {third}", "number 3,"),
    "id": ("UPDATE tenants_auditevent SET id = 'aud_x' WHERE {third}", "number 3,"),
    "tenant": ("UPDATE tenants_auditevent SET tenant_id = {globex}, sequence = 9 WHERE {third}", "3 was removed"),
    "hash": ("UPDATE tenants_auditevent SET hash = repeat('0', 64) WHERE {third}", "number 3,"),
    "previous hash": ("UPDATE tenants_auditevent SET previous_hash = repeat('0', 64) WHERE {third}", "number 3,"),
    "sequence": ("UPDATE tenants_auditevent SET sequence = 99 WHERE {third}", "number 3 was removed"),
    "first removed": ("DELETE FROM tenants_auditevent WHERE {acme} AND sequence = 1", "number 1 was removed"),
    "one removed": ("DELETE FROM tenants_auditevent WHERE {third}", "number 3 was removed"),
    "removed and closed up": (
        ("DELETE FROM tenants_auditevent WHERE {third};"
        "UPDATE tenants_auditevent SET sequence = sequence - 1 WHERE {acme} AND sequence > 3"),
        "number 3,",
    ),
    "end removed": ("DELETE FROM tenants_auditevent WHERE {acme} AND sequence > 4", "number 5 and what follows"),
    "all removed": ("DELETE FROM tenants_auditevent WHERE {acme}", "number 1 and what follows"),
    "head removed": ("DELETE FROM tenants_audithead WHERE {acme}", "head of the chain was removed"),
    "all and head removed": (
        "DELETE FROM tenants_auditevent WHERE {acme}; DELETE FROM tenants_audithead WHERE {acme}",
        "head of the chain was removed",
    ),
    "head set back": ("UPDATE tenants_audithead SET sequence = 4 WHERE {acme}", "head was changed"),
    "head's hash": ("UPDATE tenants_audithead SET hash = repeat('0', 64) WHERE {acme}", "head was changed"),
    "two swapped": (
        ("UPDATE tenants_auditevent SET sequence = 7 - sequence + 1000 WHERE {acme} AND sequence IN (3, 4);"
        "UPDATE tenants_auditevent SET sequence = sequence - 1000 WHERE {acme} AND sequence > 1000"),
        "number 3,",
    ),
    "inserted without a place": (
        ("INSERT INTO tenants_auditevent SELECT (jsonb_populate_record(e, "
        "'{{\"id\": \"aud_x\", \"sequence\": null, \"hash\": \"\"}}')).* FROM tenants_auditevent AS e WHERE {third}"),
        "aud_x .* was inserted",
    ),
    "changed with its hash": (
        ("UPDATE tenants_auditevent SET actor = 'nobody' WHERE {third};"
        "UPDATE tenants_auditevent AS e SET hash = audit_hash(e) WHERE {third}"),
        "number 4, .* does not follow",
    ),
    "inserted with a hash": (
        ("UPDATE tenants_auditevent SET sequence = sequence + 1000 WHERE {acme} AND sequence > 3;"
        "UPDATE tenants_auditevent SET sequence = sequence - 999 WHERE {acme} AND sequence > 1000;"
        "INSERT INTO tenants_auditevent SELECT (jsonb_populate_record(e, jsonb_build_object("
        "'id', 'aud_x', 'sequence', 4, 'previous_hash', e.hash))).* FROM tenants_auditevent AS e WHERE {third};"
        "UPDATE tenants_auditevent AS e SET hash = audit_hash(e) WHERE id = 'aud_x'"),
        "number 5,",
    ),
}  # fmt: skip


def test_every_tampering_is_found_and_its_row_named(own_site: LiveSite) -> None:
    """Each is done in a transaction that is rolled back again, and verified inside it, by the same SQL and code."""
    whole = own_site.manage("verify_audit", "--tenant", "acme")
    assert "acme: 6 rows" in whole
    uri = embedded_database.ensure_started_server().get_uri(database=own_site.database)
    session = psycopg2.connect(uri)
    session.autocommit = False
    found = {}
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute("SELECT id FROM tenants_tenant WHERE name IN ('acme', 'globex') ORDER BY name")
        (acme,), (globex,) = cursor.fetchall()
        places = {
            "acme": f"tenant_id = '{acme}'",
            "third": f"tenant_id = '{acme}' AND sequence = 3",
            "globex": f"'{globex}'",
        }
        for name, (statement, _) in TAMPERINGS.items():
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(statement.format(**places))
            found[name] = fault_seen_by(cursor, acme)
            session.rollback()
    wrong = {name: found[name] for name, (_, says) in TAMPERINGS.items() if not re.search(says, found[name])}
    assert not wrong
    assert own_site.manage("verify_audit", "--tenant", "acme") == whole


def fault_seen_by(cursor: Any, tenant_id: str) -> str:
    """What `verify` finds in the superuser's own transaction."""

    @contextlib.contextmanager
    def chunked_cursor() -> Iterator[Any]:
        yield cursor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "chunked_cursor", chunked_cursor)
        return audit_chain.verify(tenant=Tenant(pk=tenant_id)).fault


def test_the_command_ends_with_1_and_names_the_tenant(own_site: LiveSite) -> None:
    uri = embedded_database.ensure_started_server().get_uri(database=own_site.database)
    session = psycopg2.connect(uri)
    with contextlib.closing(session), session, session.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE tenants_auditevent SET actor = 'nobody' WHERE verb = 'member.add'")
    with pytest.raises(AssertionError, match=r"audit trail of acme was tampered with"):
        own_site.manage("verify_audit")
    assert "It is whole" in own_site.manage("verify_audit", "--tenant", "globex")


def test_an_unknown_tenant_is_said(db: None) -> None:
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        call_command("verify_audit", tenant="nobody")


def test_rows_from_before_there_was_a_chain_are_linked(own_site: LiveSite) -> None:
    own_site.manage("migrate", "tenants", "0005_notices", "--verbosity=0")
    own_site.manage("migrate", "--verbosity=0")
    assert "acme: 6 rows" in own_site.manage("verify_audit")
    own_site.manage("create_api_key", "acme", "--name", "five", "--scopes", "read")
    assert "acme: 7 rows" in own_site.manage("verify_audit")


# From where


def test_a_row_says_from_where_a_request_came(acme: Account, acme_client: APIClient) -> None:
    answer = acme_client.post(
        "/api/v1/api-keys",
        {"name": "ci", "scopes": ["read"]},
        format="json",
        REMOTE_ADDR="192.0.2.7",
        HTTP_USER_AGENT="curl/8" + "\t" + "x" * 300,
        HTTP_X_FORWARDED_FOR="198.51.100.2",
    )
    with scoping.tenant(acme.tenant.pk):
        row = AuditEvent.objects.for_tenant(acme.tenant).get(subject=answer.json()["id"])
    assert (row.address, row.forwarded_for) == ("192.0.2.7", "198.51.100.2")
    assert row.user_agent == ("curl/8" + "x" * 300)[:200]
    assert row.request_id == answer["X-Request-Id"]


def test_what_no_request_did_says_which_program_did(db: None) -> None:
    with scoping.operator():
        tenant = accounts.create_tenant(
            name="initech", plan=Plan.objects.get(code="standard"), actor="operator:test", now=timezone.now()
        )
        row = AuditEvent.objects.for_tenant(tenant).get()
    assert row.address
    assert row.user_agent == origin.of_process().user_agent != ""
    assert row.request_id == ""


# To read


def test_the_trail_is_filtered_and_paged(acme: Account, acme_client: APIClient, globex: Account) -> None:
    record(acme.tenant, verb="cat.feed", subject="tom")
    record(acme.tenant, verb="cat.feed", subject="felix")
    record(globex.tenant, verb="cat.feed", subject="garfield")
    link_now()
    rows = acme_client.get(EVENTS, {"verb": "cat.feed"}).json()["results"]
    assert [row["subject"] for row in rows] == sorted((row["subject"] for row in rows), key=["felix", "tom"].index)
    assert [row["subject"] for row in acme_client.get(EVENTS, {"subject": "tom"}).json()["results"]] == ["tom"]
    assert acme_client.get(EVENTS, {"actor": "nobody"}).json()["results"] == []
    assert acme_client.get(EVENTS, {"to": "2020-01-01T00:00:00Z"}).json()["results"] == []
    everything = acme_client.get(EVENTS, {"from": "2020-01-01T00:00:00Z"}).json()["results"]
    assert sorted(row["sequence"] for row in everything) == list(range(1, len(everything) + 1))
    first = acme_client.get(EVENTS, {"limit": 2}).json()
    second = acme_client.get(first["next"]).json()
    assert len({row["id"] for row in first["results"] + second["results"]}) == 4


@pytest.mark.parametrize("query", [{"from": "yesterday"}, {"colour": "red"}, {"cursor": "x"}])
def test_a_query_that_is_none_is_refused(query: dict[str, str], acme_client: APIClient) -> None:
    assert acme_client.get(EVENTS, query).status_code == 400


def test_the_file_has_the_same_rows_and_no_formulas(acme: Account, acme_client: APIClient) -> None:
    record(acme.tenant, subject="=1+1", how="fast")
    link_now()
    answer = acme_client.get(f"{EVENTS}.csv", {"verb": "cat.feed"})
    assert answer["Content-Type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.content.decode()))
    shown = acme_client.get(EVENTS, {"verb": "cat.feed"}).json()["results"][0]
    assert row["subject"] == "'=1+1"
    assert json.loads(row["detail"]) == {"how": "fast"}
    assert (row["id"], row["hash"], row["at"]) == (shown["id"], shown["hash"], shown["at"])


def test_too_many_rows_for_a_file_are_refused(acme_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.audit_trail.CSV_ROWS", 1)
    refused = acme_client.get(f"{EVENTS}.csv")
    assert refused.status_code == 400
    assert "narrow" in refused.json()["detail"]
