"""What every address of the control API does alike: retries, problems, pages, request ids, hostile input."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import ApiKey, IdempotentAnswer
from tests.conftest import Account
from tests.threads import in_threads

KEYS = "/api/v1/api-keys"
BODY = {"name": "ci", "scopes": ["read"]}


def post(client: APIClient, key: str, body: Any = BODY) -> Any:
    return client.post(KEYS, body, format="json", HTTP_IDEMPOTENCY_KEY=key)


def keys_of(account: Account) -> int:
    with scoping.tenant(account.tenant.pk):
        return ApiKey.objects.for_tenant(account.tenant).filter(name="ci").count()


# Retries


def test_a_retry_gets_the_first_answer_without_the_secret(acme: Account, acme_client: APIClient) -> None:
    first, again = post(acme_client, "one"), post(acme_client, "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["key"]
    assert again.json() == first.json() | {"key": None}
    assert again["Idempotent-Replayed"] == "true"
    assert keys_of(acme) == 1


def test_the_same_key_for_another_request_is_a_conflict(acme: Account, acme_client: APIClient) -> None:
    post(acme_client, "one")
    assert post(acme_client, "one", {"name": "ci", "scopes": ["predict"]}).status_code == 409
    assert keys_of(acme) == 1


def test_a_refused_request_may_be_mended_under_the_same_key(acme: Account, acme_client: APIClient) -> None:
    assert post(acme_client, "one", {"name": "ci", "scopes": ["nonsense"]}).status_code == 400
    assert post(acme_client, "one").status_code == 201


def test_each_caller_has_keys_of_its_own(acme: Account, acme_client: APIClient, globex_client: APIClient) -> None:
    assert post(acme_client, "one").json()["id"] != post(globex_client, "one").json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_unusable_idempotency_key_is_refused(key: str, acme_client: APIClient) -> None:
    assert post(acme_client, key).status_code == 400


def test_answers_are_forgotten_after_a_day(acme: Account, acme_client: APIClient) -> None:
    post(acme_client, "one")
    with scoping.tenant(acme.tenant.pk):
        rows = IdempotentAnswer.objects.for_tenant(acme.tenant)
        rows.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
    assert "Idempotent-Replayed" not in post(acme_client, "one")
    assert keys_of(acme) == 2


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_retries_at_the_same_moment_do_the_work_once(acme: Account) -> None:
    answers = []

    def send(number: int) -> None:
        client = APIClient()
        client.credentials(HTTP_X_API_KEY=acme.key)
        answers.append(post(client, "one"))

    in_threads(send, 4)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(answer.json()["key"] is not None for answer in answers) == 1
    assert keys_of(acme) == 1


# Problems


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "line 1, column 2"),
        ("", "name"),
        ("[1]", "dictionary"),
        ('"text"', "dictionary"),
        ('{"name": NaN}', "NaN"),
        ('{"name": -Infinity}', "Infinity"),
        ('{"name": 1e400}', "out of range"),
        ('{"name": ' + "9" * 5000 + "}", "digits"),
        ("[" * 100_000, "nested too deeply"),
        (b'{"name": "\xff"}', "not UTF-8"),
        ('{"name": "a"} x', "line 1, column 15"),
    ],
)
def test_a_body_that_is_no_usable_json_is_named(body: str | bytes, says: str, acme_client: APIClient) -> None:
    refused = acme_client.generic("POST", KEYS, body, content_type="application/json")  # type: ignore[arg-type]
    assert refused.status_code == 400
    assert refused["Content-Type"] == "application/problem+json"
    assert says in json.dumps(refused.json())


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PATCH", KEYS, {}, 405),
        ("POST", KEYS, {"content_type": "text/plain"}, 415),
        ("POST", KEYS, {"content_type": "multipart/form-data; boundary=x"}, 415),
        ("GET", KEYS, {"HTTP_ACCEPT": "text/html"}, 406),
        ("POST", KEYS, {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}, 411),
        ("GET", "/api/v1/nothing", {}, 404),
        ("GET", KEYS + "/", {}, 404),
        ("GET", f"{KEYS}/%00", {}, 404),
        ("GET", f"{KEYS}/key_%ED%A0%80", {}, 404),
        ("GET", f"{KEYS}?active=%00", {}, 400),
        ("GET", f"{KEYS}?active=maybe", {}, 400),
        ("GET", f"{KEYS}?active=true&active=false", {}, 400),
        ("GET", f"{KEYS}?activ=true", {}, 400),
        ("GET", f"{KEYS}?limit=0", {}, 400),
        ("GET", f"{KEYS}?limit=201", {}, 400),
        ("GET", f"{KEYS}?limit=ten", {}, 400),
        ("GET", f"{KEYS}?cursor=xyz", {}, 400),
        ("GET", f"{KEYS}?cursor=cD0lMDA=", {}, 400),
        ("GET", f"{KEYS}?cursor=", {}, 400),
        ("GET", "/api/v1/me?x=1", {}, 400),
    ],
)
def test_refusals_are_problem_documents(
    method: str, path: str, headers: dict[str, str], status: int, acme_client: APIClient
) -> None:
    refused = acme_client.generic(method, path, json.dumps(BODY), **headers)  # type: ignore[arg-type]
    assert refused.status_code == status
    assert refused["Content-Type"] == "application/problem+json"
    problem = refused.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["title"]
    assert problem["type"].startswith("urn:aiaas:problem:")


@override_settings(API_MAX_BODY_BYTES=100)
def test_a_body_over_the_limit_is_too_large(acme_client: APIClient) -> None:
    refused = acme_client.post(KEYS, {"name": "x" * 200}, format="json")
    assert refused.status_code == 413
    assert "100 bytes" in refused.json()["detail"]


def test_a_fault_of_ours_tells_nothing_and_undoes_everything(
    acme: Account, acme_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("tenants.audit.record", fail)
    acme_client.raise_request_exception = False
    answer = post(acme_client, "one")
    assert answer.status_code == 500
    assert "hunter2" not in answer.content.decode()
    assert answer["Content-Type"] == "application/problem+json"
    assert keys_of(acme) == 0


def test_an_answer_carries_a_request_id(acme_client: APIClient) -> None:
    assert acme_client.get("/api/v1/me")["X-Request-Id"].startswith("req_")
    for given in ("trace-1", "a\nb: c"):  # a caller cannot choose under which id its request is found
        assert acme_client.get("/api/v1/me", HTTP_X_REQUEST_ID=given)["X-Request-Id"].startswith("req_")


# Pages


def test_pages_hold_every_row_once_while_rows_are_added(acme: Account, acme_client: APIClient) -> None:
    for number in range(7):
        post(acme_client, str(number))
    first = acme_client.get(f"{KEYS}?limit=3").json()
    assert first["previous"] is None
    post(acme_client, "late")
    second = acme_client.get(first["next"]).json()
    third = acme_client.get(second["next"]).json()
    seen = [row["id"] for page in (first, second, third) for row in page["results"]]
    assert len(seen) == len(set(seen)) == 8  # Seven, and the key that the client itself uses.
    assert seen == sorted(seen, reverse=True)
    assert third["next"] is None
    back = acme_client.get(third["previous"]).json()
    assert back["results"] == second["results"]


def test_a_cursor_shows_nothing_of_another_tenant(acme_client: APIClient, globex_client: APIClient) -> None:
    for number in range(3):
        post(acme_client, str(number))
    link = acme_client.get(f"{KEYS}?limit=1").json()["next"]
    theirs = {row["id"] for row in globex_client.get(KEYS).json()["results"]}
    assert {row["id"] for row in globex_client.get(link).json()["results"]} <= theirs
