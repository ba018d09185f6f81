"""HTTP on a socket: Uvicorn's own protocol, which gives small whole requests for the plane to their `Connection`.

Those are answered without ASGI and without a task. Uvicorn still does everything else, Django's paths, large and
chunked bodies and the orderly stop; but a connection that stands idle is closed here.
"""

import asyncio
import time
from functools import partial
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inference.plane import asgi, connection, routes
from inference.plane.app import Plane
from inference.plane.connection import Connection
from inference.plane.exchange import Request
from inference.plane.heads import Head

# A body above this, or of unknown length, takes the long way, which holds the sender back while it is read.
SHORT_BODY_BYTES = 128 * 1024
REMEMBERED = 4096

_paths: dict[bytes, tuple[str, bool, bool]] = {}


class PlaneProtocol(HttpToolsProtocol):
    """One connection."""

    plane: Plane | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connection = Connection(self.plane, self)
        # The event loop calls it without a step through this class.
        self.data_received = self._connection.received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._connection.opened(transport, self.client[0] if self.client else "")
        self._raw_head = b""
        self._received = 0
        self._head: tuple[str, str] | None = None
        self._parts: list[bytes] = []
        self._idle = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        self._connection.lost()
        super().connection_lost(exc)

    def read(self, data: bytes, head: bytes) -> None:
        """Parses what came; `head` is how it begins, if that may be a whole head."""
        self._raw_head, self._received = head, len(data)
        super().data_received(data)
        self._raw_head = b""

    def on_message_begin(self) -> None:
        self._connection.between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._head = None
        self._parts = []

    def on_headers_complete(self) -> None:
        known = _paths.get(self.url) or _path(self.url)
        if known[1] and self._connection.is_free and self._is_short(events=known[2]):
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
        self._connection.between = keep_alive and not self.parser.should_upgrade()
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
            connection.known.put(self._raw_head, head)
        self._connection.arrived(Request(head, body, self._connection.address), keep_alive=keep_alive)

    def on_response_complete(self) -> None:
        self._connection.ended_long()
        super().on_response_complete()
        self._unset_keepalive_if_required()  # this connection has a timer of its own
        self._connection.go_on()

    def shutdown(self) -> None:
        if not self._connection.close_when_answered():
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._connection.arrived_long(partial(super()._start_asgi_task, cycle, app))

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

    def _close_if_idle(self) -> None:
        """One timer for the connection, rather than one for each request."""
        one = self._connection
        now = time.monotonic()
        if one.is_busy:
            one.idle_since = now
        left = one.idle_since + self.timeout_keep_alive - now
        if left > 0:
            self._idle = self.loop.call_later(left, self._close_if_idle)
        elif not self.transport.is_closing():
            self.transport.close()


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
