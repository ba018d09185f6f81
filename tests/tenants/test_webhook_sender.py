"""The sender as a process, killed in the middle of its work: each message arrives, with the id that it had."""

import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.live import LiveSite, live_site
from tests.tenants.receiver import Answer, Message, receiving

REGISTER = """
import json
from django.utils import timezone
from tenants import accounts, scoping
from tenants.webhooks import endpoints
with scoping.operator():
    made = endpoints.create(tenant=accounts.get_tenant(name="acme"), url={url!r}, kinds=["training_job.ended"],
        actor="test", now=timezone.now())
print(json.dumps({{"secret": made.secret}}))
"""
ANNOUNCE = """
import json
from tenants import accounts, notices, scoping
with scoping.operator():
    tenant = accounts.get_tenant(name="acme")
    for number in range({start}, {end}):
        notices.announce(tenant=tenant, kind="training_job.ended", once=f"job_{{number}}", number=number)
print("{{}}")
"""
STATES = """
import json
from tenants import scoping
from tenants.models import Notice, WebhookAttempt, WebhookDelivery
with scoping.operator():
    rows = WebhookDelivery.across_tenants.all()
    print(json.dumps({"messages": {row.notice_id: row.state for row in rows}, "notices": Notice.across_tenants.count(),
        "attempts": WebhookAttempt.across_tenants.count()}))
"""


@pytest.fixture
def site() -> Iterator[LiveSite]:
    settings = {"WEBHOOK_ALLOW_PRIVATE": "1", "WEBHOOK_LEASE_SECONDS": "4", "WEBHOOK_TIMEOUT_SECONDS": "3"}
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), **settings) as found:
        found.manage("create_tenant", "acme")
        yield found


def states(site: LiveSite) -> Any:
    return site.python(STATES)


def test_a_sender_killed_with_messages_on_their_way_sends_them_again(site: LiveSite) -> None:
    answered = threading.Event()
    with receiving(lambda message: Answer(wait=answered)) as receiver:
        secret = site.python(REGISTER.format(url=receiver.url))["secret"]
        site.python(ANNOUNCE.format(start=0, end=8))
        sender = site.spawn("manage.py", "webhook_sender")
        receiver.wait_for(lambda: len(receiver.messages) >= 4)  # as many as one tenant may have at hand
        sender.kill()
        sender.wait(10)
        on_their_way = {message.id for message in receiver.messages}
        answered.set()  # into the void
        assert set(states(site)["messages"].values()) == {"pending"}

        sender = site.spawn("manage.py", "webhook_sender")
        receiver.wait_for(lambda: set(states(site)["messages"].values()) == {"delivered"})
        sender.send_signal(signal.SIGTERM)
        assert sender.wait(30) == 0
        found = states(site)
        came = Counter(message.id for message in receiver.messages)
        assert set(came) == set(found["messages"])
        assert found["notices"] == len(came) == 8
        assert all(came[message] >= 2 for message in on_their_way)
        assert found["attempts"] == 8  # what a killed sender did is in no log
        for message in receiver.messages:
            Webhook(secret).verify(message.body, message.headers)


@pytest.mark.slow
def test_none_is_lost_over_several_kills(site: LiveSite) -> None:
    def answer(message: Message) -> Answer:
        return Answer(204)

    with receiving(answer) as receiver:
        site.python(REGISTER.format(url=receiver.url))
        for turn in range(3):
            sender = site.spawn("manage.py", "webhook_sender")
            before = len(receiver.messages)
            site.python(ANNOUNCE.format(start=100 * turn, end=100 * (turn + 1)))
            receiver.wait_for(lambda: len(receiver.messages) > before + 20)  # noqa: B023
            sender.kill()
            sender.wait(10)
        site.spawn("manage.py", "webhook_sender")
        receiver.wait_for(lambda: set(states(site)["messages"].values()) == {"delivered"}, seconds=120)
        assert len(states(site)["messages"]) == len({message.id for message in receiver.messages}) == 300


def test_a_stopped_sender_ends_what_it_has_at_hand(site: LiveSite) -> None:
    answered = threading.Event()
    with receiving(lambda message: Answer(wait=answered)) as receiver:
        site.python(REGISTER.format(url=receiver.url))
        site.python(ANNOUNCE.format(start=0, end=2))
        sender = site.spawn("manage.py", "webhook_sender")
        receiver.wait_for(lambda: len(receiver.messages) == 2)
        sender.send_signal(signal.SIGTERM)
        answered.set()
        assert sender.wait(30) == 0
        assert set(states(site)["messages"].values()) == {"delivered"}
        assert len(receiver.messages) == 2
