"""The limit of the server itself: an ASGI application that reads the request and answers a constant."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

ANSWER = b'{"predictions":[[3.8389044,-2.5831356,1.0722271]]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
