"""Keys that somebody found: anyone may report one, and learns nothing but the form of a key."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import accounts, scoping
from tenants.api import keys
from tenants.keys import api_keys
from tenants.limits import rates
from tenants.models import ApiKey, AuditEvent, Notice
from tests.conftest import Account
from tests.tenants.test_api_keys import make

PATH = "/api/v1/leaked-keys"


@pytest.fixture(autouse=True)
def fresh_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "leak_reports", rates.Bound(keys.LEAK_REPORTS_PER_MINUTE))


def report(text: Any, **extra: Any) -> Any:
    return APIClient().post(PATH, {"key": text}, format="json", **extra)


def revoked(key: api_keys.NewKey) -> bool:
    with scoping.operator():
        return ApiKey.across_tenants.get(pk=key.row.pk).revoked_at is not None


def test_a_live_key_is_revoked_its_owner_told_and_the_reporter_written_down(acme: Account) -> None:
    key = make(acme)
    assert report(f" {key.text}\n", REMOTE_ADDR="198.51.100.9").status_code == 202
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=key.text).status_code == 401
    with scoping.operator():
        notice = Notice.across_tenants.get(kind="api_key.leaked")
        event = AuditEvent.across_tenants.get(verb="api_key.leak")
    assert (notice.tenant_id, notice.once) == (acme.tenant.pk, key.row.pk)
    assert (notice.data["api_key"], notice.data["prefix"]) == (key.row.pk, key.row.prefix)
    assert (event.tenant_id, event.subject, event.detail) == (
        acme.tenant.pk, key.row.pk, {"reporter": "198.51.100.9"},
    )  # fmt: skip
    assert key.text not in str(notice.__dict__) + str(event.__dict__)


def test_the_answer_is_the_same_whether_there_was_such_a_key(acme: Account) -> None:
    expired, ended, live = make(acme, lifetime=timedelta(seconds=-1)), make(acme), make(acme)
    with scoping.operator():
        api_keys.revoke(key=ended.row, actor="test", now=timezone.now())
    answers = [report(text) for text in (live.text, live.text, expired.text, ended.text, api_keys.draw())]
    assert {answer.status_code for answer in answers} == {202}
    assert len({(answer.content, tuple(sorted(answer.headers))) for answer in answers}) == 1
    with scoping.operator():
        assert [notice.once for notice in Notice.across_tenants.all()] == [live.row.pk]
        assert AuditEvent.across_tenants.filter(verb="api_key.leak").count() == 1


def test_a_key_of_a_suspended_tenant_does_not_come_back(acme: Account) -> None:
    key = make(acme)
    with scoping.operator():
        accounts.suspend(tenant=acme.tenant, actor="test")
    assert report(key.text).status_code == 202
    assert revoked(key)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"key": ""}, {"key": None}, {"key": 7}, {"key": []}, {"key": "nonsense"},
        {"key": "aiaas_local_" + "0" * 36}, {"key": "x" * 1001},
        {"key": "x" * 500_000}, {"key": "a\0b"}, {"key": "\ud800"}, {"key": "aiaas_live_ключ"},
        {"key": "aiaas_local_x", "tenant": "acme"}, [], "text", None,
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_with_words(body: Any, db: None) -> None:
    answer = APIClient().generic("POST", PATH, json.dumps(body), content_type="application/json")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_key_that_was_cut_short_or_mistyped_says_so_and_harms_nothing(acme: Account) -> None:
    key = make(acme)
    for text in (key.text[:-1], key.text[1:], key.text.lower(), key.text + "0", key.text[:20] + "!" + key.text[21:]):
        answer = report(text)
        assert (answer.status_code, "checksum" in answer.json()["detail"]) == (400, True)
        assert text not in answer.content.decode()
    assert not revoked(key)


def test_reports_are_bounded_for_each_address_and_no_key_is_needed_or_looked_at(acme: Account) -> None:
    for _ in range(keys.LEAK_REPORTS_PER_MINUTE):
        assert report("nonsense", REMOTE_ADDR="198.51.100.9").status_code == 400
    key = make(acme)
    over = report(key.text, REMOTE_ADDR="198.51.100.9")
    assert over.status_code == 429
    assert int(over["Retry-After"]) >= 1
    assert not revoked(key)
    assert report(key.text, REMOTE_ADDR="198.51.100.10", HTTP_X_API_KEY="not a key").status_code == 202
    assert revoked(key)


def test_only_posts_are_taken(db: None) -> None:
    assert APIClient().get(PATH).status_code == 405


def test_of_two_reports_at_once_one_tells_the_owner(acme: Account) -> None:
    key, now = make(acme), timezone.now()
    with scoping.operator():
        stale = [ApiKey.across_tenants.get(pk=key.row.pk) for _ in range(2)]
        assert [api_keys.leaked(key=row, actor="test", now=now) for row in stale] == [True, False]
        assert Notice.across_tenants.count() == 1
