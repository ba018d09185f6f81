"""The gate: who sends a prediction request, and what a request may be."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from inference.plane.directory import Directory, KeyEntry
from inference.plane.heads import Head, Headers
from tenants.errors import Denied, Invalid, TooLarge, Unauthenticated
from tenants.keys import addresses, key_uses
from tenants.keys.addresses import Network
from tenants.keys.api_keys import KeyRefused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
SCOPE = "predict"


class Disconnected(Exception):
    """The caller left before its request was whole."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may be."""

    body_bytes: int
    rows: int
    deadline_seconds: float


def identify(head: Head, peer: str, directory: Directory) -> KeyEntry:
    """The key that the request carries, allowed to predict. `peer` is the address at the connection's other end."""
    if head.key_digest is None:
        raise Unauthenticated("Send an API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.")
    now = time.time()
    key = directory.key(head.key_digest, now=now)
    if key.networks is not None:
        _check_sender(head.headers, peer, key.networks)
    key_uses.note(key.id, now)
    if SCOPE not in key.scopes:
        raise Denied(f"Predictions need the scope predict; this key has {', '.join(sorted(key.scopes))}.")
    return key


def _check_sender(headers: Headers, peer: str, networks: tuple[Network, ...]) -> None:
    sender = addresses.sender(peer, headers.get(b"x-forwarded-for", b"").decode("latin-1"))
    if not addresses.contains(networks, sender):
        raise KeyRefused


def deadline(head: Head, limits: Limits, *, now: float) -> float:
    """When the answer must be there: when its caller says, at most the service's own limit."""
    if isnan(head.timeout):
        wanted = head.headers[b"x-request-timeout"].decode("latin-1")
        raise Invalid(f"X-Request-Timeout is {wanted!r}; expected a number of seconds above 0.")
    return now + min(head.timeout, limits.deadline_seconds)


async def read_body(headers: Headers, receive: Receive, limits: Limits) -> bytes:
    """The whole body, or a refusal as soon as it is known to be too large."""
    declared = headers.get(b"content-length", b"")
    if declared and int(declared) > limits.body_bytes:
        raise _too_large(int(declared), limits)
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(body) > limits.body_bytes:
            raise _too_large(len(body), limits)
        return body
    parts = []
    total = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        total += len(parts[-1])
        if total > limits.body_bytes:
            raise _too_large(total, limits)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _too_large(size: int, limits: Limits) -> TooLarge:
    return TooLarge(f"The body has {size:,} bytes or more; the limit is {limits.body_bytes:,}.")
