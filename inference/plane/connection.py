"""The requests of one connection in their order, and the short way of each to the plane and back.

A whole request whose head is known by its bytes goes past the HTTP parser, and its answer is one write. What else
comes is read by Uvicorn's protocol (`http.py`), which brings the requests that it finds back here.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from inference.plane.exchange import Answer, Exchange, HeaderList, Request
from inference.plane.heads import END, KNOWN_BYTES, Head, KnownHeads

if TYPE_CHECKING:
    from inference.plane.app import Plane

# So many requests may wait for the answer to the one before them; then their sender waits, too.
PIPELINED = 32


class Reader(Protocol):
    """Who reads what takes the long way, by Uvicorn's names: the last cycle there, and the state of the server."""

    cycle: Any
    server_state: Any
    flow: Any
    loop: Any

    def read(self, data: bytes, head: bytes) -> None:
        """Parses what came; `head` is how it begins, if that may be a whole head."""
        ...


class Connection:
    """One connection. `between` says that no part of a request has come yet whose end has not."""

    __slots__ = (
        "_answered", "_exchange", "_head", "_keep_alive", "_long_way", "_plane", "_raw_head", "_reader", "_transport",
        "_waiting", "address", "between", "idle_since",
    )  # fmt: skip

    def __init__(self, plane: "Plane | None", reader: Reader) -> None:
        self._plane = plane
        self._reader: Reader | None = reader
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._waiting: deque[Callable[[], None]] = deque()
        self._head: Head | None = None
        self._raw_head = b""
        self._long_way = False
        self._keep_alive = True
        self._answered = False
        self.address = ""
        self.between = True
        self.idle_since = 0.0

    def opened(self, transport: Any, address: str) -> None:
        """The connection is there; `address` is that of the other end."""
        self._transport, self.address = transport, address
        self.idle_since = time.monotonic()

    def lost(self) -> None:
        """The caller is gone."""
        self._reader = None
        self._waiting.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._plane is not None:
            self._plane.abandon(exchange)

    def received(self, data: bytes) -> None:
        """What came from the socket; a whole request is answered at once if its head came lately."""
        raw = b""
        if self.between:
            head = self._head
            if head is not None and data.startswith(self._raw_head):
                raw = self._raw_head
            elif (end := data.find(END, 0, KNOWN_BYTES)) > 0:
                raw = data[: end + len(END)]
                head = known.get(raw)
            else:
                head = None
            if head is not None and len(raw) + head.body_bytes == len(data) and self.is_free:
                self._head, self._raw_head = head, raw
                body = memoryview(data)[len(raw) :] if head.seen_in_place else data[len(raw) :]
                self.arrived(Request(head, body, self.address), keep_alive=True)
                return
        assert self._reader is not None
        self._reader.read(data, raw)

    @property
    def is_free(self) -> bool:
        """Whether the plane is there, and no request of the long way is before the one that comes."""
        if self._plane is None or self._reader is None or not self._plane.ready:
            return False
        cycle = self._reader.cycle
        return cycle is None or bool(cycle.response_complete)

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self._exchange is not None or self._long_way

    def arrived(self, request: Request, *, keep_alive: bool) -> None:
        """A whole request of the short way: answered now, or after those before it."""
        if self.is_busy or self._waiting:
            self._put_off(partial(self._begin, request, keep_alive))
        else:
            self._begin(request, keep_alive)

    def arrived_long(self, begin: Callable[[], None]) -> None:
        """A request of the long way, whose body may be still to come: begun now, or after those before it."""
        if self._exchange is not None or self._waiting:
            self._put_off(partial(self._begin_long, begin))
        else:
            self._begin_long(begin)

    def ended_long(self) -> None:
        """The answer to a request of the long way has gone."""
        self._long_way = False
        self.idle_since = time.monotonic()

    def go_on(self) -> None:
        """Begins what waits, as far as it need not wait for answers."""
        while self._waiting and not self.is_busy and not self._transport.is_closing():
            assert self._reader is not None
            begin = self._waiting.popleft()
            self._reader.flow.resume_reading()
            begin()

    def close_when_answered(self) -> bool:
        """Whether an answer of the short way is yet to go; if so, the connection ends with it."""
        if self._exchange is None:
            return False
        self._keep_alive = False
        return True

    def _put_off(self, begin: Callable[[], None]) -> None:
        """Keeps a request that came before the answer to the one before it; beyond a few, its sender waits."""
        assert self._reader is not None
        self._waiting.append(begin)
        if len(self._waiting) >= PIPELINED:
            self._reader.flow.pause_reading()

    def _begin_long(self, begin: Callable[[], None]) -> None:
        self._long_way = True
        begin()

    def _begin(self, request: Request, keep_alive: bool) -> None:
        assert self._plane is not None
        self._keep_alive = keep_alive
        self._answered = False
        exchange = self._plane.begin(request, self._answer)
        if not self._answered:
            self._exchange = exchange

    def _answer(self, answer: Answer) -> None:
        """Writes an answer with one write."""
        self._answered = True
        self._exchange = None
        transport = self._transport
        if self._reader is None or transport.is_closing():
            return
        parts = [_beginnings.of(answer.status, self._reader.server_state.default_headers)]
        for name, value in answer.headers:
            parts += (name, b": ", value, b"\r\n")
        if not self._keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: ", b"%d" % len(answer.body), b"\r\n\r\n", answer.body)
        transport.write(b"".join(parts))
        self.idle_since = time.monotonic()
        if not self._keep_alive:
            transport.close()
        elif self._waiting:
            self._reader.loop.call_soon(self.go_on)


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


_beginnings: Final = Beginnings()
known: Final = KnownHeads()
