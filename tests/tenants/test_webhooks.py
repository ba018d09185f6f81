"""Webhooks over the API: endpoints, deliveries with their log, tests, replays, rotation; and what the queue does."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from tenants import notices, scoping
from tenants.models import AuditEvent, Notice, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import deliveries, sending
from tenants.webhooks.deliveries import Outcome, Parcel
from tests.conftest import Account
from tests.tenants.receiver import Answer, Message, Receiver, receiving
from tests.threads import in_threads

ENDPOINTS = "/api/v1/webhook-endpoints"
DELIVERIES = "/api/v1/webhook-deliveries"
URL = "https://1.1.1.1/hook"
KIND = "training_job.ended"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found, override_settings(WEBHOOK_ALLOW_PRIVATE=True):
        yield found


def register(client: APIClient, url: str = URL, **more: Any) -> dict[str, Any]:
    answer = client.post(ENDPOINTS, {"url": url, "kinds": [KIND], **more}, format="json")
    assert answer.status_code == 201, answer.content
    found: dict[str, Any] = answer.json()
    return found


def happen(account: Account, *names: str, kind: str = KIND, at: datetime | None = None) -> None:
    with scoping.tenant(account.tenant.pk):
        for name in names:
            assert notices.announce(tenant=account.tenant, kind=kind, once=name, job=name)
            if at is not None:
                Notice.objects.for_tenant(account.tenant).filter(kind=kind, once=name).update(created_at=at)


def dispatch(now: datetime | None = None) -> int:
    with scoping.operator():
        return deliveries.dispatch(now=now or timezone.now())


def claim(now: datetime | None = None) -> Parcel | None:
    with scoping.operator():
        return deliveries.claim(now=now or timezone.now())


def claimed(now: datetime | None = None) -> Parcel:
    parcel = claim(now)
    assert parcel is not None
    return parcel


def settle(parcel: Parcel, now: datetime, status: int | None = None, **more: Any) -> bool:
    outcome = Outcome(at=now, duration_ms=5, status=status, error="" if status else "nobody there", **more)
    with scoping.operator():
        return deliveries.settle(parcel=parcel, outcome=outcome, now=now, spread=0.0)


def send_what_is_due(now: datetime | None = None) -> int:
    """One sender's work, in this thread."""
    dispatch(now)
    count = 0
    while parcel := claim(now):
        outcome = sending.send(parcel, now=timezone.now())
        with scoping.operator():
            assert deliveries.settle(parcel=parcel, outcome=outcome, now=now or timezone.now(), spread=0.0)
        count += 1
    return count


def verbs(account: Account) -> list[str]:
    with scoping.operator():
        found = AuditEvent.objects.for_tenant(account.tenant).filter(verb__startswith="webhook").order_by("at")
        return [event.verb for event in found]


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


# Deliveries


def test_a_notice_goes_to_those_who_want_it_and_to_no_other_tenant(
    acme: Account, acme_client: APIClient, globex_client: APIClient, receiver: Receiver
) -> None:
    wanting = register(acme_client, f"{receiver.url}/wanting")
    register(acme_client, f"{receiver.url}/others", kinds=["invoice.issued"])
    off = register(acme_client, f"{receiver.url}/off")
    acme_client.patch(f"{ENDPOINTS}/{off['id']}", {"active": False}, format="json")
    register(globex_client, f"{receiver.url}/globex")
    happen(acme, "job_1")
    assert send_what_is_due() == 1
    assert send_what_is_due() == 0
    assert [message.path for message in receiver.messages] == ["/hook/wanting"]
    (shown,) = acme_client.get(DELIVERIES).json()["results"]
    assert (shown["state"], shown["kind"], shown["endpoint"]) == ("delivered", KIND, wanting["id"])
    assert shown["message"] == receiver.messages[0].id
    (attempt,) = acme_client.get(f"{DELIVERIES}/{shown['id']}/attempts").json()["results"]
    assert (attempt["status"], attempt["error"]) == (204, "")
    assert globex_client.get(DELIVERIES).json()["results"] == []
    assert globex_client.get(f"{DELIVERIES}/{shown['id']}").status_code == 404


def test_what_happened_before_an_endpoint_was_there_is_not_sent(acme: Account, acme_client: APIClient) -> None:
    happen(acme, "job_1", at=timezone.now() - timedelta(minutes=1))
    register(acme_client)
    assert dispatch() == 1
    assert claim() is None


def test_deliveries_are_filtered(acme: Account, acme_client: APIClient) -> None:
    one, other = register(acme_client), register(acme_client, "https://8.8.8.8/", kinds=["invoice.issued"])
    happen(acme, "job_1")
    happen(acme, "inv_1", kind="invoice.issued")
    dispatch()
    settle(claimed(), timezone.now(), 200)
    for query, count in (
        ({"endpoint": one["id"]}, 1),
        ({"endpoint": other["id"], "kind": KIND}, 0),
        ({"kind": "invoice.issued"}, 1),
        ({"state": "delivered"}, 1),
        ({"state": "pending"}, 1),
        ({"state": "gone"}, 0),
    ):
        assert len(acme_client.get(DELIVERIES, query).json()["results"]) == count, query
    assert acme_client.get(DELIVERIES, {"state": "lost"}).status_code == 400


def test_a_failure_is_tried_again_by_the_schedule_and_ends(acme: Account, acme_client: APIClient) -> None:
    register(acme_client)
    happen(acme, "job_1")
    now = begun = timezone.now()
    dispatch(now)
    for wait in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400):
        assert settle(claimed(now), now, 500, answer="no")
        assert claim(now + timedelta(seconds=wait - 1)) is None
        now += timedelta(seconds=wait)
    settle(claimed(now), now)
    assert timedelta(days=3) < now - begun < timedelta(days=3.2)
    (shown,) = acme_client.get(DELIVERIES).json()["results"]
    assert (shown["state"], shown["tries"], shown["next_at"]) == ("failed", 10, None)
    log = acme_client.get(f"{DELIVERIES}/{shown['id']}/attempts").json()["results"]
    assert len(log) == 10
    assert (log[0]["status"], log[0]["error"], log[1]["status"], log[1]["answer"]) == (None, "nobody there", 500, "no")
    assert claim(now + timedelta(days=30)) is None


NOW = datetime(2026, 11, 25, tzinfo=UTC)


@given(tries=st.integers(1, 9), spread=st.floats(0, 1), asked=st.none() | st.integers(0, 10**6))
def test_a_wait_is_at_least_the_schedules_and_at_most_a_fifth_longer_or_as_asked(
    tries: int, spread: float, asked: int | None
) -> None:
    retry_after = None if asked is None else timedelta(seconds=asked)
    again = deliveries.retry_at(tries=tries, now=NOW, spread=spread, retry_after=retry_after)
    assert again is not None
    least = deliveries.WAITS[tries - 1]
    most = max(least * 1.2, min(retry_after or timedelta(0), timedelta(days=1)))
    assert least <= again - NOW <= most


def test_after_ten_tries_there_is_no_other() -> None:
    assert deliveries.retry_at(tries=10, now=NOW, spread=0, retry_after=timedelta(1)) is None


def test_gone_ends_the_delivery_and_switches_the_endpoint_off(acme: Account, acme_client: APIClient) -> None:
    made = register(acme_client)
    happen(acme, "job_1", "job_2")
    dispatch()
    settle(claimed(), timezone.now(), 410)
    assert claim() is None  # the other waits
    states = [row["state"] for row in acme_client.get(DELIVERIES).json()["results"]]
    assert sorted(states) == ["gone", "pending"]
    assert acme_client.get(f"{ENDPOINTS}/{made['id']}").json()["disabled"] == "gone"
    assert verbs(acme)[-1] == "webhook_endpoint.disable"
    acme_client.patch(f"{ENDPOINTS}/{made['id']}", {"active": True}, format="json")
    assert claim() is not None


def test_an_endpoint_that_fails_for_days_is_switched_off_with_a_row_in_the_trail(
    acme: Account, acme_client: APIClient
) -> None:
    made = register(acme_client)
    path = f"{ENDPOINTS}/{made['id']}"
    now = timezone.now()
    for day in range(5):
        happen(acme, f"job_{day}")
        dispatch(now)
        settle(claimed(now), now, 500)
        assert acme_client.get(path).json()["active"], day
        with scoping.operator():  # what waits for its next try is out of the way of the next day
            WebhookDelivery.across_tenants.filter(state="pending").update(next_at=now + timedelta(days=30))
        now += timedelta(days=1)
    happen(acme, "job_last")
    dispatch(now)
    settle(claimed(now), now, 500)
    assert acme_client.get(path).json()["disabled"] == "failing"
    assert verbs(acme) == ["webhook_endpoint.create", "webhook_endpoint.disable"]
    acme_client.patch(path, {"active": True}, format="json")
    assert acme_client.get(path).json()["failing_since"] is None


def test_one_success_forgets_the_failures(acme: Account, acme_client: APIClient) -> None:
    path = f"{ENDPOINTS}/{register(acme_client)['id']}"
    happen(acme, "job_1")
    now = timezone.now()
    dispatch(now)
    settle(claimed(now), now, 500)
    assert acme_client.get(path).json()["failing_since"]
    later = now + timedelta(days=6)
    settle(claimed(later), later, 200)
    shown = acme_client.get(path).json()
    assert (shown["active"], shown["failing_since"]) == (True, None)


def test_what_is_held_is_held_once_until_its_lease_is_over(acme: Account, acme_client: APIClient) -> None:
    register(acme_client)
    happen(acme, "job_1")
    now = timezone.now()
    dispatch(now)
    first = claimed(now)
    assert claim(now + timedelta(seconds=59)) is None
    second = claimed(now + timedelta(seconds=61))
    assert second.notice.pk == first.notice.pk
    assert settle(first, now, 200) is False  # it came too late: the other one's result counts
    assert settle(second, now, 200) is True
    with scoping.operator():
        assert WebhookAttempt.across_tenants.count() == 1


def test_what_was_deleted_meanwhile_is_settled_as_nothing(acme: Account, acme_client: APIClient) -> None:
    made = register(acme_client)
    happen(acme, "job_1")
    dispatch()
    parcel = claimed()
    acme_client.delete(f"{ENDPOINTS}/{made['id']}")
    assert settle(parcel, timezone.now(), 500) is False


def test_a_tenant_with_much_to_send_leaves_senders_to_others(
    acme: Account, globex: Account, acme_client: APIClient, globex_client: APIClient
) -> None:
    register(acme_client)
    register(globex_client)
    happen(acme, *(f"job_{number}" for number in range(10)))
    dispatch()
    happen(globex, "job_1")
    dispatch()
    held = [claimed().endpoint.tenant_id for _ in range(5)]
    assert held == [acme.tenant.pk] * 4 + [globex.tenant.pk]
    assert claim() is None


def test_a_suspended_tenant_is_sent_nothing(acme: Account, acme_client: APIClient) -> None:
    register(acme_client)
    happen(acme, "job_1")
    dispatch()
    with scoping.operator():
        acme.tenant.active = False
        acme.tenant.save()
    assert claim() is None


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_senders_at_once_take_each_delivery_once() -> None:
    from tests.conftest import open_account

    account = open_account("acme")
    with scoping.operator():
        endpoints_ = [
            WebhookEndpoint.objects.create(tenant=account.tenant, url=URL, kinds=[KIND], seed=b"s" * 32)
            for _ in range(2)
        ]
    happen(account, *(f"job_{number}" for number in range(20)))
    taken: list[str] = []

    def work(number: int) -> None:
        for _ in range(40):
            dispatch()
            parcel = claim()
            if parcel is not None:
                taken.append(parcel.delivery.pk)
                assert settle(parcel, timezone.now(), 200)

    in_threads(work, 6)
    assert len(taken) == len(set(taken)) == 20 * len(endpoints_)


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
    body["delivered_too"] = True
    assert acme_client.post(f"{path}/replay", body, format="json").json() == {"deliveries": 3}
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
