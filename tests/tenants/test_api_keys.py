"""API keys: their form, the ways to send them, and the one answer to every key that does not work."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from tenants import accounts, scoping
from tenants.keys import api_keys
from tenants.models import ApiKey, AuditEvent
from tests.conftest import Account

HEADERS: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda key: {"HTTP_AUTHORIZATION": f"Bearer {key}"},
    "basic": lambda key: {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"any:{key}".encode()).decode()},
    "x-api-key": lambda key: {"HTTP_X_API_KEY": key},
}


def make(account: Account, scopes: str = "read", lifetime: timedelta | None = None) -> api_keys.NewKey:
    now = timezone.now() if lifetime is None or lifetime > timedelta(0) else timezone.now() + 2 * lifetime
    with scoping.operator():
        return api_keys.create(
            tenant=account.tenant, name="k", scopes=scopes.split(","), actor="test", now=now,
            expires_at=None if lifetime is None else timezone.now() + lifetime,
        )  # fmt: skip


@pytest.mark.parametrize("form", HEADERS)
def test_a_key_works_in_each_header(form: str, acme: Account) -> None:
    assert APIClient().get("/api/v1/me", **HEADERS[form](acme.key)).status_code == 200  # type: ignore[arg-type]


@pytest.mark.parametrize("form", HEADERS)
def test_every_key_that_does_not_work_gets_the_same_answer(form: str, acme: Account, globex: Account) -> None:
    revoked, expired = make(acme), make(acme, lifetime=timedelta(seconds=-1))
    with scoping.operator():
        api_keys.revoke(key=revoked.row, actor="test", now=timezone.now())
        accounts.suspend(tenant=globex.tenant, actor="test")
    wrong = [
        api_keys.draw(), revoked.text, expired.text, globex.key, acme.key[:-1], acme.key + "x", acme.key.lower(),
        acme.key[:-1] + ("0" if acme.key[-1] != "0" else "1"), "", "nonsense", "a" * 5000,
    ]  # fmt: skip
    answers = [APIClient().get("/api/v1/me", **HEADERS[form](key)) for key in wrong if key or form != "x-api-key"]  # type: ignore[arg-type]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0]["WWW-Authenticate"]


@pytest.mark.parametrize("header", ["Basic !!!", "Basic /w==", "Basic", "Token x", "Bearer", "\xe9"])
def test_a_malformed_header_is_unauthenticated(header: str, db: None) -> None:
    assert APIClient().get("/api/v1/me", HTTP_AUTHORIZATION=header).status_code == 401


def test_a_key_can_be_checked_offline() -> None:
    key = api_keys.draw()
    assert api_keys.is_well_formed(key)
    assert key.startswith("aiaas_local_")
    assert len(key) == len("aiaas_local_") + 36


@given(st.integers(0, 47), st.characters())
def test_a_changed_character_is_noticed(place: int, character: str) -> None:
    key = api_keys.draw()
    changed = key[:place] + character + key[place + 1 :]
    assert api_keys.is_well_formed(changed) == (changed == key)


@given(st.text())
def test_no_text_breaks_the_check_of_a_keys_form(text: str) -> None:
    assert not api_keys.is_well_formed(text)


def test_the_key_is_shown_once_and_kept_as_a_digest(acme: Account, acme_client: APIClient) -> None:
    made = acme_client.post("/api/v1/api-keys", {"name": "ci", "scopes": ["read", "predict"]}, format="json")
    assert made.status_code == 201
    shown = made.json()
    assert shown["scopes"] == ["predict", "read"]
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=shown["key"]).json()["caller"] == {
        "kind": "key", "id": shown["id"], "name": "ci", "role": None, "scopes": ["predict", "read"],
    }  # fmt: skip
    secret = shown.pop("key")
    assert acme_client.get(f"/api/v1/api-keys/{shown['id']}").json() == shown
    assert secret not in acme_client.get("/api/v1/api-keys").content.decode()
    with scoping.operator():
        row = ApiKey.across_tenants.get(pk=shown["id"])
        assert bytes(row.digest) == api_keys.digest(secret)
        assert secret not in str(row.__dict__)
        assert secret not in str([event.detail for event in AuditEvent.across_tenants.all()])


def test_nobody_gives_what_they_do_not_have(acme: Account) -> None:
    client = APIClient()
    client.credentials(HTTP_X_API_KEY=make(acme, "manage,read").text)
    refused = client.post("/api/v1/api-keys", {"name": "k", "scopes": ["read", "billing"]}, format="json")
    assert refused.status_code == 403
    assert "billing" in refused.json()["detail"]
    client.force_login(acme.members["developer"])
    client.credentials()
    assert client.post("/api/v1/api-keys", {"name": "k", "scopes": ["billing"]}, format="json").status_code == 403
    assert client.post("/api/v1/api-keys", {"name": "k", "scopes": ["predict"]}, format="json").status_code == 201


def test_a_revoked_key_is_refused_and_revoking_again_changes_nothing(acme: Account, acme_client: APIClient) -> None:
    key = make(acme)
    first = acme_client.delete(f"/api/v1/api-keys/{key.row.pk}")
    assert first.status_code == 200
    assert first.json()["revoked_at"]
    assert acme_client.delete(f"/api/v1/api-keys/{key.row.pk}").json() == first.json()
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=key.text).status_code == 401
    with scoping.operator():
        assert AuditEvent.across_tenants.filter(verb="api_key.revoke", subject=key.row.pk).count() == 1


def test_keys_are_listed_by_whether_they_work(acme: Account, acme_client: APIClient) -> None:
    with scoping.operator():
        revoked = api_keys.revoke(key=make(acme).row, actor="test", now=timezone.now())
    expired, live = make(acme, lifetime=timedelta(seconds=-1)).row, make(acme, lifetime=timedelta(days=1)).row

    def listed(query: str) -> set[str]:
        return {row["id"] for row in acme_client.get(f"/api/v1/api-keys{query}").json()["results"]}

    assert {revoked.pk, expired.pk} == listed("?active=false")
    assert live.pk in listed("?active=true")
    assert listed("?active=true") | listed("?active=false") == listed("")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "x" * 81, "scopes": ["read"]}, "name"),
        ({"name": "a\0b", "scopes": ["read"]}, "name"),
        ({"name": "\ud800", "scopes": ["read"]}, "name"),
        ({"name": {"a": 1}, "scopes": ["read"]}, "name"),
        ({"name": "k"}, "scopes"),
        ({"name": "k", "scopes": []}, "scopes"),
        ({"name": "k", "scopes": "read"}, "scopes"),
        ({"name": "k", "scopes": ["root"]}, "scopes.0"),
        ({"name": "k", "scopes": ["read"], "expires_at": "soon"}, "expires_at"),
        ({"name": "k", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "k", "scopes": ["read"], "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ({"name": "k", "scopes": ["read"], "tenant": "globex"}, "tenant"),
        ({"name": "k", "scopes": ["read"], "revoked_at": None}, "revoked_at"),
    ],
)
def test_bad_input_names_the_field(body: object, field: str, acme_client: APIClient) -> None:
    before = len(acme_client.get("/api/v1/api-keys").json()["results"])
    refused = acme_client.generic("POST", "/api/v1/api-keys", json.dumps(body), content_type="application/json")
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert len(acme_client.get("/api/v1/api-keys").json()["results"]) == before


def test_a_session_needs_the_csrf_token(acme: Account) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(acme.members["owner"])
    assert client.get("/api/v1/me").status_code == 200
    refused = client.post("/api/v1/api-keys", {"name": "k", "scopes": ["read"]}, format="json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]


def test_a_member_of_several_tenants_names_one(acme: Account, globex: Account) -> None:
    with scoping.operator():
        accounts.add_member(
            tenant=globex.tenant, user=acme.members["owner"], role="billing", actor="test", now=timezone.now()
        )
    client = APIClient()
    client.force_login(acme.members["owner"])
    assert client.get("/api/v1/me").status_code == 401
    mine = client.get("/api/v1/me", HTTP_X_TENANT="globex").json()
    assert (mine["tenant"]["name"], mine["caller"]["role"]) == ("globex", "billing")
    client.force_login(acme.members["developer"])
    foreign, missing = (client.get("/api/v1/me", HTTP_X_TENANT=name) for name in ("globex", "nowhere"))
    assert foreign.status_code == missing.status_code == 401
    assert foreign.content == missing.content


def test_a_head_request_needs_what_a_get_needs(acme: Account) -> None:
    client = APIClient()
    client.credentials(HTTP_X_API_KEY=make(acme, "read").text)
    assert client.head("/api/v1/api-keys").status_code == 403
