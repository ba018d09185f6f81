"""Webhooks over the API: endpoints, rotation, tests, replays."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from tenants import scoping
from tenants.models import WebhookEndpoint
from tests.conftest import Account
from tests.tenants.hooks import (
    DELIVERIES,
    ENDPOINTS,
    KIND,
    URL,
    claim,
    claimed,
    dispatch,
    happen,
    receiver,
    register,
    send_what_is_due,
    settle,
    verbs,
)
from tests.tenants.receiver import Answer, Message, Receiver, receiving

__all__ = ["receiver"]


# Endpoints


def test_an_endpoints_secret_is_shown_once(acme: Account, acme_client: APIClient) -> None:
    wanted = {"url": URL, "kinds": [KIND, "invoice.issued"], "description": "ci"}
    made = acme_client.post(ENDPOINTS, wanted, format="json", HTTP_IDEMPOTENCY_KEY="one").json()
    assert made["secret"].startswith("whsec_")
    again = acme_client.post(ENDPOINTS, wanted, format="json", HTTP_IDEMPOTENCY_KEY="one").json()
    assert again == made | {"secret": None}
    shown = acme_client.get(f"{ENDPOINTS}/{made['id']}").json()
    assert "secret" not in shown
    assert (shown["url"], shown["kinds"], shown["active"]) == (URL, ["invoice.issued", KIND], True)
    assert acme_client.get(ENDPOINTS).json()["results"] == [shown]
    assert verbs(acme) == ["webhook_endpoint.create"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://1.1.1.1/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://ann:secret@1.1.1.1/"}, "url"),
        ({"url": "https://1.1.1.1/" + "x" * 2000}, "url"),
        ({"url": ""}, "url"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["cat.sneezed"]}, "kinds.0"),
        ({"kinds": ["webhook.test"]}, "kinds.0"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_kept(
    change: dict[str, Any], field: str, acme: Account, acme_client: APIClient
) -> None:
    refused = acme_client.post(ENDPOINTS, {"url": URL, "kinds": [KIND]} | change, format="json")
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    made = register(acme_client)
    if "secret" not in change:
        assert acme_client.patch(f"{ENDPOINTS}/{made['id']}", change, format="json").status_code == 400
    assert len(acme_client.get(ENDPOINTS).json()["results"]) == 1


def test_an_endpoint_is_changed_switched_off_and_removed(acme: Account, acme_client: APIClient) -> None:
    path = f"{ENDPOINTS}/{register(acme_client)['id']}"
    shown = acme_client.patch(path, {"url": "https://8.8.8.8/", "active": False}, format="json").json()
    assert (shown["url"], shown["active"], shown["disabled"]) == ("https://8.8.8.8/", False, "by_owner")
    acme_client.patch(path, {"active": False}, format="json")  # it is already: no row in the trail
    assert acme_client.patch(path, {"active": True}, format="json").json()["disabled"] == ""
    assert acme_client.delete(path).status_code == 204
    assert acme_client.get(path).status_code == 404
    assert verbs(acme) == [
        "webhook_endpoint.create", "webhook_endpoint.change", "webhook_endpoint.change", "webhook_endpoint.delete",
    ]  # fmt: skip


def test_there_is_a_most_of_endpoints(acme_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.webhooks.endpoints.MOST_ENDPOINTS", 1)
    register(acme_client)
    refused = acme_client.post(ENDPOINTS, {"url": URL, "kinds": [KIND]}, format="json")
    assert refused.status_code == 409


def test_a_rotation_signs_with_both_until_the_grace_is_over(
    acme: Account, acme_client: APIClient, receiver: Receiver
) -> None:
    made = register(acme_client, receiver.url)
    turned = acme_client.post(f"{ENDPOINTS}/{made['id']}/rotate-secret", {"grace_seconds": 3600}, format="json").json()
    assert turned["secret"] != made["secret"]
    happen(acme, "job_1")
    assert send_what_is_due() == 1
    (message,) = receiver.messages
    for secret in (made["secret"], turned["secret"]):
        assert Webhook(secret).verify(message.body, message.headers)["data"] == {"job": "job_1"}
    acme_client.post(f"{ENDPOINTS}/{made['id']}/rotate-secret", {"grace_seconds": 0}, format="json")
    happen(acme, "job_2")
    send_what_is_due()
    assert len(receiver.messages[1].headers["webhook-signature"].split()) == 1
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(turned["secret"]).verify(receiver.messages[1].body, receiver.messages[1].headers)


@pytest.mark.parametrize("grace", [-1, 7 * 86400 + 1, "soon"])
def test_a_grace_that_is_none_is_refused(grace: object, acme_client: APIClient) -> None:
    path = f"{ENDPOINTS}/{register(acme_client)['id']}/rotate-secret"
    assert acme_client.post(path, {"grace_seconds": grace}, format="json").status_code == 400


# Tests and replays


def test_a_test_goes_to_its_endpoint_alone(acme: Account, acme_client: APIClient, receiver: Receiver) -> None:
    made = register(acme_client, f"{receiver.url}/one")
    register(acme_client, f"{receiver.url}/other")
    sent = acme_client.post(f"{ENDPOINTS}/{made['id']}/test")
    assert (sent.status_code, sent.json()["kind"], sent.json()["state"]) == (201, "webhook.test", "pending")
    assert send_what_is_due() == 1
    (message,) = receiver.messages
    assert message.path == "/hook/one"
    assert Webhook(made["secret"]).verify(message.body, message.headers)["type"] == "webhook.test"
    assert verbs(acme)[-1] == "webhook_endpoint.ping"


def test_a_replay_sends_again_under_the_same_id(acme: Account, acme_client: APIClient, receiver: Receiver) -> None:
    register(acme_client, receiver.url)
    happen(acme, "job_1")
    send_what_is_due()
    (shown,) = acme_client.get(DELIVERIES).json()["results"]
    for _ in range(2):  # asked twice before it is sent, it is sent once
        again = acme_client.post(f"{DELIVERIES}/{shown['id']}/replay")
        assert (again.status_code, again.json()["state"], again.json()["tries"]) == (200, "pending", 0)
    assert send_what_is_due() == 1
    assert [message.id for message in receiver.messages] == [shown["message"]] * 2
    assert len(acme_client.get(f"{DELIVERIES}/{shown['id']}/attempts").json()["results"]) == 2
    assert verbs(acme).count("webhook_delivery.replay") == 1


def test_what_waits_for_its_next_try_need_not_wait(acme: Account, acme_client: APIClient) -> None:
    register(acme_client)
    happen(acme, "job_1")
    now = timezone.now()
    dispatch(now)
    settle(claimed(now), now, 500)
    (shown,) = acme_client.get(DELIVERIES).json()["results"]
    acme_client.post(f"{DELIVERIES}/{shown['id']}/replay")
    assert claimed().delivery.tries == 1


def test_what_is_at_hand_is_not_begun_again(acme: Account, acme_client: APIClient) -> None:
    register(acme_client)
    happen(acme, "job_1")
    dispatch()
    parcel = claimed()
    acme_client.post(f"{DELIVERIES}/{parcel.delivery.pk}/replay")
    assert claim() is None
    assert settle(parcel, timezone.now(), 200)


def test_a_replay_since_a_time_sends_what_was_missed(acme: Account, acme_client: APIClient) -> None:
    """What failed, what happened while it was off, and not what was taken unless that is asked for."""
    made = register(acme_client)
    with scoping.operator():
        WebhookEndpoint.across_tenants.update(created_at=timezone.now() - timedelta(days=30))
    path = f"{ENDPOINTS}/{made['id']}"
    since = timezone.now() - timedelta(days=10)
    happen(acme, "old", at=since - timedelta(days=1))
    happen(acme, "taken", at=since + timedelta(days=1))
    happen(acme, "failed", at=since + timedelta(days=2))
    dispatch()
    for status in (410, 200, 410):
        settle(claimed(), timezone.now(), status)
        acme_client.patch(path, {"active": True}, format="json")
    acme_client.patch(path, {"active": False}, format="json")
    happen(acme, "while off", at=since + timedelta(days=3))
    happen(acme, "other", kind="invoice.issued", at=since + timedelta(days=3))
    dispatch()
    body = {"since": since.isoformat()}
    assert acme_client.post(f"{path}/replay", body, format="json").status_code == 409  # it is off
    acme_client.patch(path, {"active": True}, format="json")

    assert acme_client.post(f"{path}/replay", body, format="json").json() == {"deliveries": 2}
    sent = []
    while parcel := claim():
        sent.append(parcel.notice.once)
        settle(parcel, timezone.now(), 200)
    assert sorted(sent) == ["failed", "while off"]
    assert acme_client.post(f"{path}/replay", body | {"delivered_too": True}, format="json").json() == {"deliveries": 3}
    assert verbs(acme)[-1] == "webhook_endpoint.replay"


def test_an_endpoint_that_is_off_is_tested_and_replayed_by_nobody(acme: Account, acme_client: APIClient) -> None:
    made = register(acme_client)
    happen(acme, "job_1")
    dispatch()
    acme_client.patch(f"{ENDPOINTS}/{made['id']}", {"active": False}, format="json")
    (shown,) = acme_client.get(DELIVERIES).json()["results"]
    for path in (f"{ENDPOINTS}/{made['id']}/test", f"{DELIVERIES}/{shown['id']}/replay"):
        refused = acme_client.post(path)
        assert refused.status_code == 409
        assert "switched off by its owner" in refused.json()["detail"]


def test_the_command_replays(acme: Account, acme_client: APIClient) -> None:
    made = register(acme_client)
    happen(acme, "job_1")
    dispatch()
    settle(claimed(), timezone.now(), 200)
    (shown,) = acme_client.get(DELIVERIES).json()["results"]

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("replay_webhooks", "acme", *arguments, stdout=out)
        return out.getvalue()

    assert "1 deliveries are sent" in run("--delivery", shown["id"])
    settle(claimed(), timezone.now(), 200)
    since = ("--endpoint", made["id"], "--since", "2026-01-01")
    assert "0 deliveries are sent" in run(*since)
    assert "1 deliveries are sent" in run(*since, "--delivered-too")
    assert claim() is not None
    for wrong, says in (
        ((), "Expected --delivery"),
        (("--endpoint", made["id"]), "--since"),
        (("--delivery", "dlv_none"), "no webhook delivery"),
        (("--endpoint", "whe_none", "--since", "2026-01-01"), "no webhook endpoint"),
        (("--endpoint", made["id"], "--since", "soon"), "is no time"),
    ):
        with pytest.raises(CommandError, match=says):
            run(*wrong)


def test_messages_are_answered_by_their_kind_of_receiver(acme: Account, acme_client: APIClient) -> None:
    """A receiver that is down at first gets the same message later, with a new time and a signature for it."""

    def answer(message: Message) -> Answer:
        return Answer(500 if len(down.messages) == 1 else 200)

    with receiving(answer) as down, override_settings(WEBHOOK_ALLOW_PRIVATE=True):
        made = register(acme_client, down.url)
        happen(acme, "job_1")
        assert send_what_is_due() == 1
        assert send_what_is_due(timezone.now() + timedelta(seconds=6)) == 1
    first, second = down.messages
    assert (first.id, first.body) == (second.id, second.body)
    assert Webhook(made["secret"]).verify(second.body, second.headers)
