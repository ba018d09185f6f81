"""The long way: an exchange by ASGI, for a request that does not come whole (`http.py` is the short one)."""

import asyncio
import time

from inference.plane import gate
from inference.plane.app import Plane
from inference.plane.exchange import Answer, Exchange, Request
from inference.plane.gate import Disconnected, Headers, Receive, Scope, Send
from tenants.errors import Refusal


async def serve(plane: Plane, scope: Scope, receive: Receive, send: Send) -> None:
    """One request of a prediction path (`routes.takes`)."""
    headers: Headers = dict(scope["headers"])
    address = (scope.get("client") or ("",))[0]
    request = Request(scope["method"], scope["path"], scope.get("query_string", b""), headers, b"", address)
    try:
        if scope["method"] in ("POST", "PUT", "PATCH"):
            plane.directory.check_fresh(time.monotonic())
            gate.identify(headers, address, plane.directory)  # before a byte of the body is read
        body = await gate.read_body(headers, receive, plane.limits)
    except Disconnected:
        return
    except Refusal as refusal:
        answers: list[Answer] = []
        plane.refuse(request, answers.append, refusal)
        answer = answers[0]
    else:
        answer = await _answered(plane, request._replace(body=body), receive)
    answer.headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _answered(plane: Plane, request: Request, receive: Receive) -> Answer:
    """The answer of an exchange; a caller that leaves meanwhile is heard of."""
    delivered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    exchange = plane.begin(request, delivered.set_result)
    if delivered.done():
        return delivered.result()
    leaving = asyncio.ensure_future(_watch(plane, exchange, delivered, receive))
    try:
        return await delivered
    finally:
        leaving.cancel()


async def _watch(plane: Plane, exchange: Exchange, delivered: "asyncio.Future[Answer]", receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    plane.abandon(exchange)
    delivered.cancel()
