"""The long way: an exchange by ASGI, for a request that does not come whole (`connection.py` has the short one).

And for an answer that does not go whole: by server-sent events, `partial` ones while it is worked out, each replacing
the one before, then its `result`, or an `error`.
"""

import asyncio
import contextlib
import time

from inference.plane import events, gate, routes
from inference.plane.app import Plane
from inference.plane.exchange import Answer, Exchange, Request
from inference.plane.gate import Disconnected, Receive, Scope, Send
from inference.plane.heads import Head, Headers
from inference.protocols import native
from tenants.errors import Refusal

# A caller that takes events says so in its Accept header.
EVENTS = b"text/event-stream"


def may_have_events(path: str) -> bool:
    """Whether an answer at this path may go by events: only the service's own protocol has them."""
    return routes.protocol_of(path) is native.PROTOCOL


async def serve(plane: Plane, scope: Scope, receive: Receive, send: Send) -> None:
    """One request of a prediction path (`routes.takes`)."""
    headers: Headers = dict(scope["headers"])
    address = (scope.get("client") or ("",))[0]
    head = Head(scope["method"], scope["path"], headers)
    request = Request(head, b"", address)
    try:
        if scope["method"] in ("POST", "PUT", "PATCH"):
            plane.directory.check_fresh(time.monotonic())
            gate.identify(head, address, plane.directory)  # before a byte of the body is read
        body = await gate.read_body(headers, receive, plane.limits)
    except Disconnected:
        return
    except Refusal as refusal:
        answers: list[Answer] = []
        plane.refuse(request, answers.append, refusal)
        answer = answers[0]
    else:
        request = Request(head, body, address)
        if scope["method"] == "POST" and EVENTS in headers.get(b"accept", b"") and may_have_events(head.path):
            await _by_events(plane, request, receive, send)
            return
        answer = await _answered(plane, request, receive)
    await _send(answer, send)


async def _send(answer: Answer, send: Send) -> None:
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


class _Told:
    """What one caller is to be told next: the newest partial answer, and in the end the answer."""

    def __init__(self) -> None:
        self.partial = b""
        self.answer: Answer | None = None
        self.changed = asyncio.Event()

    def tell(self, partial: bytes) -> None:
        self.partial = partial
        self.changed.set()

    def deliver(self, answer: Answer) -> None:
        self.answer = answer
        self.changed.set()

    async def next(self) -> list[bytes]:
        """The events since the last time; waits until there is one."""
        await self.changed.wait()
        self.changed.clear()
        partial, self.partial = self.partial, b""
        found = [_event("partial", partial)] if partial else []
        if self.answer is not None:
            found.append(_event("result" if self.answer.status == 200 else "error", self.answer.body))
        return found


async def _by_events(plane: Plane, request: Request, receive: Receive, send: Send) -> None:
    """Answers by events; what is refused before there is one is answered as any other refusal."""
    told = _Told()
    exchange = plane.begin(request, told.deliver, told.tell)
    telling = asyncio.ensure_future(_tell(plane, exchange, told, send))
    leaving = asyncio.ensure_future(events.left(receive))
    try:
        await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(TimeoutError):  # who takes nothing for so long has left
            if telling.done():
                telling.result()
    finally:
        if told.answer is None:
            plane.abandon(exchange)
        for task in (telling, leaving):
            task.cancel()
        await asyncio.gather(telling, leaving, return_exceptions=True)


async def _tell(plane: Plane, exchange: Exchange, told: _Told, send: Send) -> None:
    told_first = await told.next()
    if told.answer is not None and told.answer.status != 200 and len(told_first) == 1:
        await _send(told.answer, send)
        return
    limits = plane.settling.rate_headers(exchange, time.monotonic())
    headers = [*events.HEADERS, (b"x-request-id", exchange.id.encode()), *limits]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await events.write(send, b"".join(told_first))
    while told.answer is None:
        await events.write(send, b"".join(await told.next()))
    await send({"type": "http.response.body", "body": b""})


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
