"""One try: the message of a notice, posted to the checked address of its endpoint, and what came of it."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
from django.conf import settings

from tenants.models import Notice
from tenants.models.webhooks import ANSWER_LENGTH, ERROR_LENGTH
from tenants.webhooks import destinations, signatures
from tenants.webhooks.deliveries import Outcome, Parcel

CONNECTED_WITHIN_SECONDS = 5.0
ANSWER_BODY_SECONDS = 2.0
USER_AGENT = "aiaas-webhooks/1"
SECONDS = re.compile(r"[0-9]{1,6}")

Look = Callable[[str, int], Awaitable[list[str]]]


def body_of(notice: Notice) -> bytes:
    """The message: its kind, when it happened, and what there is to say of it."""
    happened = notice.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    message = {"type": notice.kind, "timestamp": happened, "data": notice.data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def send(parcel: Parcel, *, now: datetime, look: Look | None = None) -> Outcome:
    """Posts a delivery's message and gives what came of it; never raises for what the other side does.

    `look` resolves names; the whole try, the resolving too, takes at most WEBHOOK_TIMEOUT_SECONDS.
    """
    began = time.monotonic()
    found = asyncio.run(_try(parcel, now=now, transport=PinnedTransport(look or _look)))
    return Outcome(at=now, duration_ms=int((time.monotonic() - began) * 1000), **found)


class PinnedTransport(httpx.AsyncBaseTransport):
    """Resolves the host once, checks what it found, and connects to just that; the name stays in Host and in TLS.

    The certificate is verified against the name. Redirects and proxies from the environment are not followed.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._wire = httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, retries=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = destinations.name_of(request.url)
        addresses = destinations.public(name, await self._look(name, destinations.port_of(request.url)))
        request.extensions = {**request.extensions, "sni_hostname": name}
        url, failed = request.url, None
        for address in addresses:
            request.url = url.copy_with(host=address)
            try:
                return await self._wire.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: the next one may do
                failed = error
        assert failed is not None
        raise failed

    async def aclose(self) -> None:
        await self._wire.aclose()


async def _try(parcel: Parcel, *, now: datetime, transport: PinnedTransport) -> dict[str, Any]:
    try:
        async with asyncio.timeout(settings.WEBHOOK_TIMEOUT_SECONDS):
            return await _post(parcel, now=now, transport=transport)
    except (TimeoutError, httpx.TimeoutException):
        return _failed(f"There was no answer within {settings.WEBHOOK_TIMEOUT_SECONDS:g} s.")
    except destinations.Refused as refused:
        return _failed(str(refused))
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        return _failed(f"The connection failed: {error or type(error).__name__}.")
    except (OSError, UnicodeError) as error:
        return _failed(f"The name was not resolved: {getattr(error, 'strerror', None) or error}.")
    finally:
        await transport.aclose()


async def _post(parcel: Parcel, *, now: datetime, transport: PinnedTransport) -> dict[str, Any]:
    url, body = destinations.parse(parcel.endpoint.url), body_of(parcel.notice)
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "accept-encoding": "identity",
        **signatures.headers(endpoint=parcel.endpoint, message=parcel.notice.pk, body=body, now=now),
    }
    timeout = httpx.Timeout(settings.WEBHOOK_TIMEOUT_SECONDS, connect=CONNECTED_WITHIN_SECONDS)
    client = httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)
    async with client, client.stream("POST", url, content=body, headers=headers) as response:
        return {
            "status": response.status_code,
            "answer": await _first_bytes(response),
            "retry_after": _retry_after(response),
        }


async def _first_bytes(response: httpx.Response) -> str:
    """The beginning of the answer's body; what it is worth was said by the status, so its rest is not waited for."""
    found = b""
    try:
        async with asyncio.timeout(ANSWER_BODY_SECONDS):
            async for part in response.aiter_raw():
                found += part[:ANSWER_LENGTH]
                if len(found) >= ANSWER_LENGTH:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass
    return found[:ANSWER_LENGTH].decode("utf-8", "replace").replace("\0", "\ufffd")


def _retry_after(response: httpx.Response) -> timedelta | None:
    text = response.headers.get("retry-after", "")
    return timedelta(seconds=int(text)) if SECONDS.fullmatch(text) else None


def _failed(words: str) -> dict[str, Any]:
    return {"error": words.replace("\0", "\ufffd")[:ERROR_LENGTH]}


async def _look(host: str, port: int) -> list[str]:
    return await asyncio.to_thread(destinations.resolve, host, port)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
