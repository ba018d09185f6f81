"""The short way from a socket to the plane and back: a whole small request is answered without ASGI and without a task.

It is Uvicorn's own protocol, which still does everything else: Django's paths, large and chunked bodies, keep-alive and
the orderly stop. A request whose head is known by its bytes goes past the HTTP parser, too.
"""

import asyncio
from collections import deque
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from inference.plane import asgi, routes
from inference.plane.app import Plane
from inference.plane.exchange import Answer, Exchange, HeaderList, Request
from inference.plane.heads import END, KNOWN_BYTES, Head, KnownHeads

# A body above this, or of unknown length, takes the long way, which holds the sender back while it is read.
SHORT_BODY_BYTES = 128 * 1024
PIPELINED = 32
REMEMBERED = 4096

_paths: dict[bytes, tuple[str, bool, bool]] = {}
_known = KnownHeads()


class PlaneProtocol(HttpToolsProtocol):
    """One connection."""

    plane: Plane | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._exchange: Exchange | None = None
        self._address = self.client[0] if self.client else ""
        self._long_way = False
        self._between = True  # no part of a request has come yet
        self._raw_head = b""
        self._received = 0
        self._head: tuple[str, str] | None = None
        self._parts: list[bytes] = []
        self._pipelined: deque[tuple[Request | RequestResponseCycle, bool]] = deque()
        self._keep_alive = True
        self._idle_since = self.loop.time()
        self._idle = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        self._pipelined.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self.plane is not None:
            self.plane.abandon(exchange)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What came from the socket; a whole request is answered at once if its head came lately."""
        raw = b""
        if self._between and (end := data.find(END, 0, KNOWN_BYTES)) > 0:
            raw = data[: end + len(END)]
            head = _known.get(raw)
            if head is not None and len(raw) + head.body_bytes == len(data) and self._may_be_short():
                self._unset_keepalive_if_required()
                body = memoryview(data)[len(raw) :] if head.seen_in_place else data[len(raw) :]
                self._arrived(Request(head, body, self._address), keep_alive=True)
                return
        self._raw_head, self._received = raw, len(data)
        super().data_received(data)
        self._raw_head = b""

    def on_message_begin(self) -> None:
        self._between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._head = None
        self._parts = []

    def on_headers_complete(self) -> None:
        known = _paths.get(self.url) or _path(self.url)
        if known[1] and self._may_be_short() and self._is_short(events=known[2]):
            self._head = (self.parser.get_method().decode("ascii"), known[0])
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._head is not None:
            self._parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        keep_alive = self.parser.should_keep_alive()
        self._between = keep_alive and not self.parser.should_upgrade()
        if self._head is None:
            super().on_message_complete()
            return
        method, path = self._head
        self._head = None
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        head = Head(method, path, dict(self.headers), len(body))
        keep_alive = keep_alive and self.parser.get_http_version() != "1.0"
        if keep_alive and self._raw_head and len(self._raw_head) + len(body) == self._received:
            _known.put(self._raw_head, head)
        self._arrived(Request(head, body, self._address), keep_alive=keep_alive)

    def _arrived(self, request: Request, *, keep_alive: bool) -> None:
        """A whole request of the short way: answered now, or after those before it."""
        if self._busy() or self._pipelined:
            self._put_off((request, keep_alive))
        else:
            self._begin(request, keep_alive)

    def on_response_complete(self) -> None:
        self._long_way = False
        super().on_response_complete()
        self._idle_since = self.loop.time()
        self._next()

    def shutdown(self) -> None:
        if self._exchange is not None:
            self._keep_alive = False
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._exchange is not None or self._pipelined:
            self._put_off((cycle, True))
        else:
            self._long_way = True
            super()._start_asgi_task(cycle, app)

    def _may_be_short(self) -> bool:
        """Whether the plane is there, and no request of the long way is before the one that comes."""
        if self.plane is None or not self.plane.ready:
            return False
        return self.cycle is None or bool(self.cycle.response_complete)

    def _is_short(self, *, events: bool) -> bool:
        """Whether the request is small and comes without ado.

        An answer by `events` goes the long way, too; only some paths have them.
        """
        if events and any(name == b"accept" and asgi.EVENTS in value for name, value in self.headers):
            return False
        if self.expect_100_continue or self.parser.should_upgrade() or self.parser.get_method() == b"HEAD":
            return False
        for name, value in self.headers:
            if name == b"content-length":
                return len(value) < 9 and int(value) <= SHORT_BODY_BYTES
            if name == b"transfer-encoding":
                return False
        return True

    def _busy(self) -> bool:
        return self._exchange is not None or self._long_way

    def _put_off(self, waiting: tuple[Request | RequestResponseCycle, bool]) -> None:
        """Keeps a request that came before the answer to the one before it; beyond a few, its sender waits."""
        self._pipelined.append(waiting)
        if len(self._pipelined) >= PIPELINED:
            self.flow.pause_reading()

    def _next(self) -> None:
        while self._pipelined and not self._busy() and not self.transport.is_closing():
            first, keep_alive = self._pipelined.popleft()
            self.flow.resume_reading()
            if isinstance(first, Request):
                self._begin(first, keep_alive)
            else:
                self._long_way = True
                super()._start_asgi_task(first, self.app)

    def _begin(self, request: Request, keep_alive: bool) -> None:
        assert self.plane is not None
        self._keep_alive = keep_alive
        self._answered = False
        exchange = self.plane.begin(request, self._answer)
        if not self._answered:
            self._exchange = exchange

    def _answer(self, answer: Answer) -> None:
        """Writes an answer with one write."""
        self._answered = True
        self._exchange = None
        transport = self.transport
        if transport.is_closing():
            return
        parts = [_beginnings.of(answer.status, self.server_state.default_headers)]
        for name, value in answer.headers:
            parts += (name, b": ", value, b"\r\n")
        if not self._keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: ", str(len(answer.body)).encode(), b"\r\n\r\n", answer.body)
        transport.write(b"".join(parts))
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if not self._keep_alive:
            transport.close()
        elif self._pipelined:
            self.loop.call_soon(self._next)

    def _close_if_idle(self) -> None:
        """One timer for the connection, rather than one for each request."""
        if self._busy():
            self._idle_since = self.loop.time()
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle = self.loop.call_later(left, self._close_if_idle)
        elif not self.transport.is_closing():
            self.transport.close()


class Beginnings:
    """How answers begin, by their status: the status line and the server's own headers, which change once a second."""

    def __init__(self) -> None:
        self._headers: HeaderList = []
        self._by_status: dict[int, bytes] = {}

    def of(self, status: int, headers: HeaderList) -> bytes:
        """The beginning of an answer; a list of headers is another when they change."""
        if headers is not self._headers:
            self._headers, self._by_status = headers, {}
        found = self._by_status.get(status)
        if found is None:
            lines = [b"".join((name, b": ", value, b"\r\n")) for name, value in headers]
            found = self._by_status[status] = b"".join((STATUS_LINE[status], *lines))
        return found


_beginnings = Beginnings()


def for_plane(plane: Plane | None) -> type[PlaneProtocol]:
    """The protocol class of a server that has this plane."""
    return type("PlaneProtocol", (PlaneProtocol,), {"plane": plane})


def _path(url: bytes) -> tuple[str, bool, bool]:
    """A URL's path, whether it is the plane's, and whether it may be answered by events."""
    raw = url.partition(b"?")[0]
    path = unquote(raw.decode("latin-1"))
    found = (path, raw.startswith(b"/") and routes.takes(path), asgi.may_have_events(path))
    if len(_paths) >= REMEMBERED:
        _paths.clear()
    _paths[url] = found
    return found
