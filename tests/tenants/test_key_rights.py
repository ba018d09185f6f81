"""What a key may do and from where: networks, lists of deployments, and that nobody gives what he does not have."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from tenants import accounts, scoping
from tenants.errors import Conflict
from tenants.keys import api_keys
from tenants.models import ApiKey, AuditEvent
from tests.conftest import Account
from tests.test_permissions import a_deployment
from tests.threads import in_threads

KEYS = "/api/v1/api-keys"
OFFICE = ["192.0.2.0/24", "2001:db8::/32"]


@pytest.fixture
def acmes_own(acme: Account) -> str:
    """The name of a deployment of acme's."""
    with scoping.operator():
        return a_deployment(acme)["name"]


def make(client: APIClient, **wanted: Any) -> Any:
    made = client.post(KEYS, {"name": "k", "scopes": ["read"]} | wanted, format="json")
    assert made.status_code == 201, made.content
    return made.json()


def refused(client: APIClient, status: int = 400, **wanted: Any) -> str:
    before = len(client.get(KEYS).json()["results"])
    answer = client.post(KEYS, {"name": "k", "scopes": ["read"]} | wanted, format="json")
    assert answer.status_code == status, answer.content
    assert len(client.get(KEYS).json()["results"]) == before
    return str(answer.json()["detail"])


def status_from(address: str, key: str, **headers: str) -> int:
    return int(APIClient(REMOTE_ADDR=address).get("/api/v1/me", HTTP_X_API_KEY=key, **headers).status_code)  # type: ignore[arg-type]


def test_a_key_works_from_its_networks_only(acme_client: APIClient) -> None:
    made = make(acme_client, networks=OFFICE)
    assert made["networks"] == OFFICE
    for address in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7"):
        assert status_from(address, made["key"]) == 200
    for address in ("192.0.3.7", "::ffff:192.0.3.7", "2001:db9::7", "127.0.0.1", "", "nonsense"):
        assert status_from(address, made["key"]) == 401
    assert status_from("203.0.113.1", make(acme_client)["key"]) == 200


def test_a_key_from_elsewhere_is_answered_like_one_that_is_not_known(acme_client: APIClient) -> None:
    key = make(acme_client, networks=OFFICE)["key"]
    answers = [APIClient(REMOTE_ADDR="203.0.113.1").get("/api/v1/me", HTTP_X_API_KEY=k) for k in (key, api_keys.draw())]
    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].content == answers[1].content


def test_a_claim_of_an_address_is_believed_of_our_proxies_only(acme_client: APIClient, settings: Settings) -> None:
    key, claim = make(acme_client, networks=OFFICE)["key"], {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}
    assert status_from("203.0.113.1", key, **claim) == 401
    settings.TRUSTED_PROXIES = ["203.0.113.0/24"]
    assert status_from("203.0.113.1", key, **claim) == 200
    assert status_from("203.0.113.1", key, HTTP_X_FORWARDED_FOR="192.0.2.7, 198.51.100.9") == 401


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (["office"], "'office' is no network"),
        (["192.0.2.1/24"], "expected '192.0.2.0/24'"),
        ([], "empty"),
        (["10.0.0.0/8"] * 51, "50"),
        ("10.0.0.0/8", "list"),
        ([7], "'7' is no network"),
        ([None], "null"),
        ([["10.0.0.0/8"]], "string"),
    ],
)
def test_networks_that_are_none_are_refused_with_words(networks: Any, words: str, acme_client: APIClient) -> None:
    assert words in refused(acme_client, networks=networks)


def test_a_deployment_that_is_not_there_cannot_be_listed(
    acmes_own: str, acme_client: APIClient, globex_client: APIClient
) -> None:
    assert make(acme_client, deployments=[acmes_own, acmes_own])["deployments"] == [acmes_own]
    assert "no deployment 'nope'" in refused(acme_client, deployments=[acmes_own, "nope"])
    foreign = refused(globex_client, deployments=[acmes_own])
    assert foreign == refused(globex_client, deployments=["missing"]).replace("missing", acmes_own)
    wrongs: list[Any] = [[], [""], [acmes_own] * 101, acmes_own, [{}], ["\0"]]
    for wrong in wrongs:
        refused(acme_client, deployments=wrong)


def test_a_list_does_not_go_with_managing(acmes_own: str, acme: Account, acme_client: APIClient) -> None:
    assert "manage" in refused(acme_client, deployments=[acmes_own], scopes=["predict", "manage"])
    with scoping.operator(), pytest.raises(IntegrityError, match="who_manages_calls_all"), transaction.atomic():
        ApiKey.objects.for_tenant(acme.tenant).update(deployments=[acmes_own])
    for column in ("networks", "deployments"):
        with scoping.operator(), pytest.raises(IntegrityError, match="_are_some_or_"), transaction.atomic():
            ApiKey.objects.for_tenant(acme.tenant).update(scopes=["predict"], **{column: []})


def client_of(key: str, address: str = "192.0.2.7") -> APIClient:
    client = APIClient(REMOTE_ADDR=address)
    client.credentials(HTTP_X_API_KEY=key)
    return client


def test_who_is_bound_to_networks_gives_no_more_than_those(acme_client: APIClient) -> None:
    client = client_of(make(acme_client, scopes=["manage", "read"], networks=OFFICE)["key"])
    assert "anywhere" in refused(client, status=403)
    assert "10.0.0.0/8" in refused(client, status=403, networks=["10.0.0.0/8"])
    assert "192.0.2.0/23" in refused(client, status=403, networks=["192.0.2.0/23"])
    assert make(client, networks=["192.0.2.128/25", "::ffff:192.0.2.1", "2001:db8:1::/48"])["key"]


# Rotation


def rotate(client: APIClient, key: Any, **body: Any) -> Any:
    return client.post(f"{KEYS}/{key['id']}/rotate", body, format="json")


def test_a_key_is_rotated_with_its_rights_and_works_on_for_a_day(acmes_own: str, acme_client: APIClient) -> None:
    old = make(acme_client, networks=OFFICE, deployments=[acmes_own], scopes=["read", "predict"])
    answer = rotate(acme_client, old)
    assert answer.status_code == 201
    new = answer.json()
    same = ("name", "scopes", "networks", "deployments", "expires_at")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert (new["replaces"], new["replaced_by"]) == (old["id"], None)
    before = acme_client.get(f"{KEYS}/{old['id']}").json()
    assert (before["replaces"], before["replaced_by"]) == (None, new["id"])
    assert {row["id"]: row["replaced_by"] for row in acme_client.get(KEYS).json()["results"]}[old["id"]] == new["id"]
    left = timezone.datetime.fromisoformat(before["expires_at"]) - timezone.now()  # type: ignore[attr-defined]
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)
    for key in (old, new):
        assert status_from("192.0.2.7", key["key"]) == 200
    with scoping.operator():
        (event,) = AuditEvent.across_tenants.filter(verb="api_key.rotate")
        assert (event.subject, event.detail) == (old["id"], {"successor": new["id"], "grace_seconds": 86400})
        assert new["key"] not in str(event.__dict__)


def test_without_grace_the_old_key_stops_at_once(acme_client: APIClient) -> None:
    old = make(acme_client)
    new = rotate(acme_client, old, grace_seconds=0).json()
    assert [status_from("192.0.2.7", key["key"]) for key in (old, new)] == [401, 200]


def test_after_the_grace_the_old_key_is_refused(acme: Account) -> None:
    now = timezone.now()
    with scoping.operator():
        old = api_keys.create(tenant=acme.tenant, name="k", scopes=["read"], actor="test", now=now)
        new = api_keys.rotate(key=old.row, actor="test", grace=timedelta(minutes=5), now=now)
        for after, works in ((timedelta(minutes=4, seconds=59), True), (timedelta(minutes=5), False)):
            assert api_keys.find(text=new.text, sender=None, now=now + after) == new.row
            if works:
                assert api_keys.find(text=old.text, sender=None, now=now + after) == old.row
            else:
                with pytest.raises(api_keys.KeyRefused):
                    api_keys.find(text=old.text, sender=None, now=now + after)


def test_a_key_that_expires_is_followed_by_one_that_lives_as_long_and_its_end_is_not_put_off(acme: Account) -> None:
    now = timezone.now()
    with scoping.operator():
        old = api_keys.create(
            tenant=acme.tenant, name="k", scopes=["read"], actor="test", now=now, expires_at=now + timedelta(days=90)
        )
        later = now + timedelta(days=89, hours=20)
        new = api_keys.rotate(key=old.row, actor="test", now=later)
        assert new.row.expires_at == later + timedelta(days=90)
        assert ApiKey.across_tenants.get(pk=old.row.pk).expires_at == now + timedelta(days=90)


def test_only_a_key_that_works_is_rotated_and_only_once(acme_client: APIClient) -> None:
    old, gone = make(acme_client), make(acme_client)
    assert rotate(acme_client, old).status_code == 201
    again = rotate(acme_client, old)
    assert (again.status_code, "rotated already" in again.json()["detail"]) == (409, True)
    acme_client.delete(f"{KEYS}/{gone['id']}")
    ended = rotate(acme_client, gone)
    assert (ended.status_code, "is revoked" in ended.json()["detail"]) == (409, True)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_of_many_rotations_at_once_one_makes_a_successor(acme: Account) -> None:
    now = timezone.now()
    with scoping.operator():
        old = api_keys.create(tenant=acme.tenant, name="k", scopes=["read"], actor="test", now=now).row
    made: list[api_keys.NewKey | None] = []

    def rotate_it(_: int) -> None:
        try:
            with scoping.tenant(acme.tenant.pk):
                made.append(api_keys.rotate(key=old, actor="test", now=now))
        except Conflict:
            made.append(None)

    in_threads(rotate_it, 4)
    (new,) = [one for one in made if one is not None]
    with scoping.operator():
        assert ApiKey.across_tenants.get(replaces=old) == new.row
    assert len(made) == 4


@pytest.mark.parametrize("grace", [-1, 2_592_001, 1.5, "soon", True, None, [], 10**30])
def test_a_grace_that_is_none_is_refused(grace: Any, acme_client: APIClient) -> None:
    old = make(acme_client)
    answer = rotate(acme_client, old, grace_seconds=grace)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["grace_seconds"]
    assert acme_client.get(f"{KEYS}/{old['id']}").json()["replaced_by"] is None


def test_nobody_rotates_a_key_with_more_rights_than_his_own(acme: Account, acme_client: APIClient) -> None:
    keeper = client_of(make(acme_client, scopes=["manage", "read"], networks=OFFICE)["key"])
    rich = make(acme_client, scopes=["billing", "read"], networks=OFFICE)
    anywhere, elsewhere = make(acme_client), make(acme_client, networks=["198.51.100.0/24"])
    for key, word in ((rich, "billing"), (anywhere, "anywhere"), (elsewhere, "198.51.100.0/24")):
        answer = rotate(keeper, key)
        assert (answer.status_code, word in answer.json()["detail"]) == (403, True)
        assert acme_client.get(f"{KEYS}/{key['id']}").json() == {n: v for n, v in key.items() if n != "key"}
    assert rotate(keeper, make(acme_client, networks=["192.0.2.7"])).status_code == 201
    developer = APIClient()
    developer.force_login(acme.members["developer"])
    assert rotate(developer, rich).status_code == 403
    assert rotate(developer, anywhere).status_code == 201


def test_a_retried_rotation_makes_one_key_and_shows_it_once(acme_client: APIClient) -> None:
    old = make(acme_client)
    first, second = (
        acme_client.post(f"{KEYS}/{old['id']}/rotate", {}, format="json", HTTP_IDEMPOTENCY_KEY="one") for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (201, 201)
    assert json.loads(second.content) == {**first.json(), "key": None}


def test_a_member_has_the_rights_of_his_role(acme: Account) -> None:
    with scoping.operator():
        membership = accounts.add_member(
            tenant=acme.tenant, user=acme.members["developer"], role="developer", actor="test", now=timezone.now()
        )
        rights = accounts.caller_of_member(membership).rights
    assert (rights.scopes, rights.networks) == (frozenset({"predict", "read", "manage"}), None)
