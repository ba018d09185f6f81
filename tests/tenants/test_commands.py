"""The operator's commands."""

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import ApiKey, Membership, Tenant
from tests.conftest import Account
from tests.tenants.months import AUGUST, invoice, opened, used

pytestmark = pytest.mark.django_db


def run(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_a_tenant_a_key_and_its_end() -> None:
    assert "Created tenant initech" in run("create_tenant", "initech")
    document: dict[str, Any] = json.loads(
        run("create_api_key", "initech", "--name", "ci", "--scopes", "predict, read", "--expires-in", "30d", "--json")
    )
    assert document["scopes"] == ["predict", "read"]
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=document["key"]).status_code == 200
    assert "is revoked" in run("revoke_api_key", "initech", document["id"])
    assert "was revoked already" in run("revoke_api_key", "initech", document["id"])
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=document["key"]).status_code == 401


def test_a_key_is_shown_once_and_it_is_said() -> None:
    run("create_tenant", "initech")
    shown = run("create_api_key", "initech", "--name", "ci", "--scopes", "read")
    assert "the only time it is shown" in shown
    assert shown.strip().splitlines()[-1].startswith("aiaas_local_")


def test_a_tenant_that_is_there_is_an_error_unless_asked_for_if_missing() -> None:
    run("create_tenant", "initech")
    with pytest.raises(CommandError, match="already"):
        run("create_tenant", "initech")
    assert "already" in run("create_tenant", "initech", "--if-missing")
    with scoping.operator():
        assert Tenant.objects.filter(name="initech").count() == 1


def test_an_owner_is_made_once_with_or_without_a_password() -> None:
    run("create_tenant", "initech", "--owner", "Bill@initech.example")
    run("create_tenant", "initrode", "--owner", "bill@initech.example")
    run("create_tenant", "other", "--owner", "milton@initech.example", "--password", "red-swingline-stapler")
    assert not User.objects.get(username="bill@initech.example").has_usable_password()
    assert User.objects.get(username="milton@initech.example").check_password("red-swingline-stapler")
    with scoping.operator():
        assert Membership.objects.filter(user__username="bill@initech.example", role="owner").count() == 2


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("create_tenant Bad_Name", "lower-case"),
        ("create_tenant initech --plan gold", "standard, trial"),
        ("create_tenant initech --owner nobody", "valid email"),
        ("create_tenant initech --owner a@b.example --password short", "too short"),
        ("create_tenant initech --password red-swingline-stapler", "--owner"),
        ("create_api_key nobody --name k --scopes read", "no tenant 'nobody'"),
        ("create_api_key acme --name k --scopes root", "predict, read, manage, billing"),
        ("create_api_key acme --name k --scopes ,", "none"),
        ("create_api_key acme --name k --scopes read --expires-in soon", "90d"),
        ("create_api_key acme --name k --scopes read --expires-in 0d", "90d"),
        ("create_api_key acme --scopes read", "--name"),
        ("create_api_key acme --name k --scopes read --networks office", "'office' is no network"),
        ("create_api_key acme --name k --scopes read --networks ,", "Expected 1 to 50"),
        ("create_api_key acme --name k --scopes predict --deployments cats", "no deployment 'cats'"),
        ("revoke_api_key acme key_none", "no API key"),
        ("rotate_api_key acme key_none", "no API key"),
        ("rotate_api_key acme key_none --grace soon", "90d"),
        ("list_api_keys nobody", "no tenant 'nobody'"),
        ("report_leaked_key aiaas_local_nonsense", "no key of this service"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(command: str, says: str) -> None:
    run("create_tenant", "acme")
    with pytest.raises(CommandError, match=says):
        run(*command.split())
    with scoping.operator():
        assert [tenant.name for tenant in Tenant.objects.all()] == ["acme"]
        assert not ApiKey.across_tenants.exists()
    assert not User.objects.exists()


def test_a_key_is_bound_listed_rotated_and_reported() -> None:
    run("create_tenant", "initech")
    made = run(
        "create_api_key", "initech", "--name", "ci", "--scopes", "read", "--networks", "127.0.0.0/8, ::1", "--json"
    )
    old = json.loads(made)
    assert old["networks"] == ["127.0.0.0/8", "::1/128"]
    new = json.loads(run("rotate_api_key", "initech", old["id"], "--grace", "0", "--json"))
    assert new["networks"] == old["networks"]
    lines = [json.loads(line) for line in run("list_api_keys", "initech", "--json").splitlines()]
    assert [(line["id"], line["state"], line["replaces"]) for line in lines] == [
        (new["id"], "active", old["id"]),
        (old["id"], "revoked", None),
    ]
    listed = run("list_api_keys", "initech", "--active")
    assert f"{new['id']}  aiaas_local" in listed
    assert "networks=127.0.0.0/8,::1/128" in listed
    assert old["id"] not in listed.split("replaces=")[0]
    assert new["key"] not in listed
    assert "is revoked" in run("report_leaked_key", new["key"])
    assert "no such key" in run("report_leaked_key", new["key"])
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=new["key"]).status_code == 401


def test_a_leaked_key_is_read_from_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    run("create_tenant", "initech")
    text = run("create_api_key", "initech", "--name", "ci", "--scopes", "read").strip().splitlines()[-1]
    monkeypatch.setattr("sys.stdin", StringIO(f"{text}\nmore\n"))
    assert "is revoked" in run("report_leaked_key")


def test_a_rotated_key_is_shown_once_and_it_is_said() -> None:
    run("create_tenant", "initech")
    old = json.loads(run("create_api_key", "initech", "--name", "ci", "--scopes", "read", "--json"))
    shown = run("rotate_api_key", "initech", old["id"])
    assert "the only time it is shown" in shown
    for key in (old["key"], shown.strip().splitlines()[-1]):
        assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=key).status_code == 200


def test_a_month_is_closed_by_a_command_and_credit_is_given_by_one(acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    assert "acme was given 2.00 EUR and has 2.00 EUR" in run("grant_credit", "acme", "2", "--expires", "2099-12-31")
    done = run("close_billing_period", "--month", "2026-08", "--tenant", "acme")
    assert re.fullmatch(r"2026-08: 1 invoices issued, (INV-\d{4}-000001) to \1; nothing to bill to 0 tenants\.\n", done)
    assert invoice(tenant, AUGUST).due == 3
    assert "0 invoices issued; nothing to bill to 0" in run("close_billing_period", "--month", "2026-08")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["close_billing_period", "--month", "october"], "expected one as in 2026-10"),
        (["close_billing_period", "--month", "2999-01"], "closed after its end"),
        (["close_billing_period", "--month", "2026-08", "--tenant", "nobody"], "no tenant"),
        (["grant_credit", "acme", "NaN"], "above 0"),
        (["grant_credit", "acme", "5", "--currency", "USD"], "Expected EUR"),
        (["grant_credit", "acme", "5", "--expires", "soon"], "2026-12-31"),
        (["grant_credit", "acme", "5", "--expires", "2020-01-01"], "after now"),
    ],
)
def test_what_these_commands_refuse(command: list[str], said: str, acme: Account) -> None:
    with pytest.raises(CommandError, match=said):
        run(*command)
