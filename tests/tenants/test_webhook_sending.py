"""One try to send, against a real receiver on loopback."""

import base64
import json
import re
import socket
import ssl
import textwrap
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from tenants.models import Notice, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import destinations, sending, signatures
from tenants.webhooks.deliveries import Outcome, Parcel
from tests.live import ROOT, free_port
from tests.tenants.receiver import AUTHORITY, Answer, receiving

SEED = b"s" * 32
NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
DATA = {"name": "bücher", "total": "12.50", "formula": "=1+1", "nested": {"a": [1, None]}}


def a_parcel(url: str) -> Parcel:
    endpoint = WebhookEndpoint(url=url, kinds=["invoice.issued"], seed=SEED)
    notice = Notice(kind="invoice.issued", once="1", data=DATA, created_at=NOW)
    return Parcel(delivery=WebhookDelivery(endpoint=endpoint, notice=notice), endpoint=endpoint, notice=notice)


def allowed() -> override_settings:
    return override_settings(WEBHOOK_ALLOW_PRIVATE=True)


def looking(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A DNS that gives these answers one after the other."""
    left = list(answers)

    async def look(host: str, port: int) -> list[str]:
        return left.pop(0)

    return look


# The message and its signature


def test_a_message_is_verified_by_the_standards_own_library() -> None:
    with receiving() as receiver, allowed():
        parcel = a_parcel(receiver.url)
        outcome = sending.send(parcel, now=timezone.now())
    assert (outcome.status, outcome.delivered, outcome.error) == (204, True, "")
    (message,) = receiver.messages
    assert message.id == parcel.notice.pk
    assert message.headers["content-type"] == "application/json"
    found = Webhook(signatures.secret(SEED)).verify(message.body, message.headers)
    assert found == {"type": "invoice.issued", "timestamp": "2026-11-25T12:30:00Z", "data": DATA}
    with pytest.raises(WebhookVerificationError):
        Webhook(signatures.secret(b"t" * 32)).verify(message.body, message.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signatures.secret(SEED)).verify(message.body + b" ", message.headers)


def test_the_signature_is_that_of_the_specification() -> None:
    endpoint = WebhookEndpoint(seed=SEED)
    headers = signatures.headers(endpoint=endpoint, message="ntc_1", body=b"{}", now=NOW)
    by_library = Webhook(signatures.secret(SEED)).sign("ntc_1", NOW, "{}")
    assert headers == {
        "webhook-id": "ntc_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": by_library,
    }


def test_a_secret_has_the_form_and_size_that_the_specification_asks_for() -> None:
    text = signatures.secret(signatures.draw_seed())
    assert text.startswith("whsec_")
    assert len(base64.b64decode(text.removeprefix("whsec_"))) == 32


def test_the_database_alone_signs_nothing() -> None:
    """The secret changes with the site's key, so it is not in the seed."""
    with override_settings(WEBHOOK_KEY="one"):
        first = signatures.secret(b"s" * 32)
    with override_settings(WEBHOOK_KEY="two"):
        assert signatures.secret(b"s" * 32) != first


def test_while_the_grace_lasts_both_secrets_sign() -> None:
    endpoint = WebhookEndpoint(seed=b"n" * 32, previous_seed=b"o" * 32, previous_until=NOW + timedelta(hours=1))
    new, old = (Webhook(signatures.secret(seed)).sign("ntc_1", NOW, "{}") for seed in (b"n" * 32, b"o" * 32))
    during = signatures.headers(endpoint=endpoint, message="ntc_1", body=b"{}", now=NOW)
    assert during["webhook-signature"] == f"{new} {old}"
    later = NOW + timedelta(hours=1)
    after = signatures.headers(endpoint=endpoint, message="ntc_1", body=b"{}", now=later)
    assert after["webhook-signature"] == Webhook(signatures.secret(b"n" * 32)).sign("ntc_1", later, "{}")


def test_the_example_in_the_docs_verifies_what_is_sent() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text()
    found = re.search(r"^    import base64.*?(?=^\S)", page, re.MULTILINE | re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(textwrap.dedent(found[0]), names)
    with receiving() as receiver, allowed():
        sending.send(a_parcel(receiver.url), now=timezone.now())
        sending.send(a_parcel(receiver.url), now=timezone.now() - timedelta(minutes=6))
    good, old = receiver.messages
    secret = signatures.secret(SEED)
    assert names["verified"](secret, good.headers, good.body)
    assert not names["verified"](secret, good.headers, good.body + b" ")
    assert not names["verified"](signatures.secret(b"t" * 32), good.headers, good.body)
    assert not names["verified"](secret, old.headers, old.body)


# What the other side does


@pytest.mark.parametrize("status", [200, 201, 204, 299, 301, 302, 307, 400, 404, 410, 429, 500, 503])
def test_only_a_2xx_is_a_delivery_and_a_redirect_is_not_followed(status: int) -> None:
    with receiving() as elsewhere, allowed():

        def answer(message: object) -> Answer:
            return Answer(status, {"Location": elsewhere.url})

        with receiving(answer) as receiver:
            outcome = sending.send(a_parcel(receiver.url), now=NOW)
    assert (outcome.status, outcome.delivered) == (status, 200 <= status < 300)
    assert len(receiver.messages) == 1
    assert elsewhere.messages == []


def test_of_the_answer_its_first_bytes_are_kept() -> None:
    with receiving(lambda message: Answer(500, body=b"no\0 \xff" + b"x" * 100_000)) as receiver, allowed():
        outcome = sending.send(a_parcel(receiver.url), now=NOW)
    assert outcome.answer == ("no\ufffd \ufffd" + "x" * 995)
    assert len(outcome.answer) == 1000


def test_a_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ANSWER_BODY_SECONDS", 0.5)
    with receiving(lambda message: Answer(200, drips=True)) as receiver, allowed():
        outcome = sending.send(a_parcel(receiver.url), now=NOW)
    assert outcome.delivered
    assert 0 < len(outcome.answer) < 100


@override_settings(WEBHOOK_TIMEOUT_SECONDS=0.5)
def test_an_answer_that_does_not_come_is_a_failure() -> None:
    never = threading.Event()
    with receiving(lambda message: Answer(wait=never)) as receiver, allowed():
        outcome = sending.send(a_parcel(receiver.url), now=NOW)
        never.set()
    assert outcome.status is None
    assert outcome.error == "There was no answer within 0.5 s."
    assert outcome.duration_ms >= 400


@override_settings(WEBHOOK_TIMEOUT_SECONDS=0.5)
def test_a_head_that_drips_does_not_hold_a_sender_longer() -> None:
    """Each byte arrives in time, the whole does not: the limit is for the try, not for a read."""
    with socket.create_server(("127.0.0.1", 0)) as listener, allowed():
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        outcome = sending.send(a_parcel(f"http://127.0.0.1:{listener.getsockname()[1]}/"), now=NOW)
        stop.set()
        thread.join(10)
    assert outcome.error == "There was no answer within 0.5 s."


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_what_is_no_http_is_a_failure_with_words(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, allowed():

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        outcome = sending.send(a_parcel(f"http://127.0.0.1:{listener.getsockname()[1]}/"), now=NOW)
        thread.join(10)
    assert outcome.status is None
    assert outcome.error.startswith("The connection failed")


def test_nobody_there_is_a_failure_with_words() -> None:
    with allowed():
        outcome = sending.send(a_parcel(f"http://127.0.0.1:{free_port()}/"), now=NOW)
    assert (outcome.status, outcome.error[:22]) == (None, "The connection failed:")


def test_a_name_that_is_none_is_a_failure_with_words() -> None:
    async def look(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    outcome = sending.send(a_parcel("https://hooks.acme.example/"), now=NOW, look=look)
    assert outcome.error == "The name was not resolved: Name or service not known."


@pytest.mark.parametrize(("header", "seconds"), [("120", 120), ("soon", None), ("-1", None), ("9" * 20, None)])
def test_retry_after_is_read(header: str, seconds: int | None) -> None:
    with receiving(lambda message: Answer(503, {"Retry-After": header})) as receiver, allowed():
        outcome = sending.send(a_parcel(receiver.url), now=NOW)
    assert outcome.retry_after == (None if seconds is None else timedelta(seconds=seconds))


# Private addresses


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_a_private_address_is_refused_when_it_is_sent(address: str) -> None:
    with receiving(tls=True) as receiver:
        url = f"https://hooks.acme.example:{receiver.port}/"
        outcome = sending.send(a_parcel(url), now=NOW, look=looking([address]))
    assert outcome.error.startswith(f"hooks.acme.example is at {address}, which is no public address")
    assert receiver.messages == []


def test_plain_http_is_refused_when_it_is_sent() -> None:
    with receiving() as receiver:
        assert sending.send(a_parcel(receiver.url), now=NOW).error == "Expected https; got http."
    assert receiver.messages == []


def test_a_name_that_is_bound_anew_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up once, and what was checked is connected to, whatever the system's resolver says of it."""
    trust(monkeypatch)
    seen: list[str] = []

    def is_public(address: destinations.Address) -> bool:
        seen.append(str(address))
        return True

    monkeypatch.setattr(destinations, "is_public", is_public)
    with receiving(tls=True) as receiver:
        url = f"https://hooks.acme.example:{receiver.port}/hook"
        outcome = sending.send(a_parcel(url), now=NOW, look=looking(["127.0.0.1"]))  # a second question would fail
    assert outcome.delivered, outcome.error
    assert seen == ["127.0.0.1"]
    (message,) = receiver.messages
    assert message.headers["host"] == f"hooks.acme.example:{receiver.port}"


def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the sender trust the receiver's authority; its certificate is for hooks.acme.example."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    monkeypatch.setattr(sending, "_tls", lambda: context)


@override_settings(WEBHOOK_ALLOW_PRIVATE=True)
def test_the_certificate_must_be_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch)
    with receiving(tls=True) as receiver:

        def sent_to(name: str) -> Outcome:
            url = f"https://{name}:{receiver.port}/hook"
            return sending.send(a_parcel(url), now=NOW, look=looking(["127.0.0.1"]))

        assert sent_to("hooks.acme.example").delivered
        assert "certificate verify failed" in sent_to("hooks.globex.example").error
        assert "certificate verify failed" in sent_to("127.0.0.1").error
    assert len(receiver.messages) == 1


@override_settings(WEBHOOK_ALLOW_PRIVATE=True)
def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    with receiving(tls=True) as receiver:
        url = f"https://hooks.acme.example:{receiver.port}/hook"
        outcome = sending.send(a_parcel(url), now=NOW, look=looking(["127.0.0.1"]))
    assert "certificate verify failed" in outcome.error


@override_settings(WEBHOOK_ALLOW_PRIVATE=True)
def test_the_next_address_is_tried_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        url = f"http://hooks.acme.example:{receiver.port}/hook"
        outcome = sending.send(a_parcel(url), now=NOW, look=looking(["127.0.0.2", "127.0.0.1"]))
    assert outcome.delivered, outcome.error
    assert len(receiver.messages) == 1


@override_settings(WEBHOOK_ALLOW_PRIVATE=True)
def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert sending.send(a_parcel(receiver.url), now=NOW).delivered
    assert (len(proxy.messages), len(receiver.messages)) == (0, 1)


def test_the_body_is_json_without_spaces() -> None:
    body = sending.body_of(a_parcel("https://hooks.acme.example/").notice)
    assert json.loads(body)["data"] == DATA
    assert body.startswith(
        '{"type":"invoice.issued","timestamp":"2026-11-25T12:30:00Z","data":{"name":"bücher"'.encode()
    )
