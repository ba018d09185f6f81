"""Deliveries of webhooks: to whom, when again, how often, and what becomes of them."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import deliveries
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
from tests.tenants.receiver import Receiver
from tests.threads import in_threads

__all__ = ["receiver"]


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
