"""A load generator that costs little: raw sockets and epoll in one process, so that two cores suffice for both sides.

It sends one prepared request over and over on each of its connections, waits for each answer before the next request,
and is bounded in time. Only loopback addresses are taken.
"""

import itertools
import select
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

READ_BYTES = 16 * 1024
LONGEST_WAIT_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. Latencies in milliseconds."""

    connections: int
    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Errors are not counted: a server that refuses quickly is not fast."""
        return (self.requests - self.errors) / self.seconds


def request(path: str, key: str, body: bytes, content_type: str, *, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one POST; without a key there is no Authorization."""
    given = {"Authorization": f"Bearer {key}"} if key else {}
    more = "".join(f"{name}: {value}\r\n" for name, value in (given | dict(headers or {})).items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(port: int, prepared: list[bytes], *, connections: int, seconds: float, warm_up: float = 0.5) -> Load:
    """Sends the prepared requests in turn on so many connections. Answers but 200 are errors.

    A latency goes from before a request is given to the kernel until all of its answer has been read.
    """
    all_of_them = [Connection(port, _endless(prepared, offset)) for offset in range(connections)]
    ready = _ready(all_of_them)
    begun = time.perf_counter()
    counted_from, until = begun + warm_up, begun + warm_up + seconds
    for connection in all_of_them:
        connection.send()
    latencies: list[float] = []
    errors = 0
    now = begun
    while now < until:
        for connection in ready():
            status = connection.receive()
            if status is None:
                continue
            if connection.received_at >= counted_from:
                latencies.append(connection.received_at - connection.sent_at)
                errors += status != b"200"
            connection.send()
        now = time.perf_counter()
    for connection in all_of_them:
        connection.socket.close()
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [float("nan")] * 99
    return Load(
        connections=connections,
        requests=len(latencies),
        errors=errors,
        seconds=now - counted_from,
        p50_ms=cuts[49] * 1e3,
        p99_ms=cuts[98] * 1e3,
    )


def _ready(connections: list["Connection"]) -> Callable[[], Iterable["Connection"]]:
    """What waits until some of the connections have something to read; a lone one waits by reading it."""
    if len(connections) == 1:
        return lambda: connections
    poll = select.epoll()
    by_number = {connection.socket.fileno(): connection for connection in connections}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    return lambda: [by_number[number] for number, _ in poll.poll(LONGEST_WAIT_SECONDS)]


def _endless(prepared: list[bytes], offset: int) -> Iterator[bytes]:
    """The prepared requests in turn, over and over, from the one at the offset."""
    return itertools.islice(itertools.cycle(prepared), offset % len(prepared), None)


class Connection:
    """One keep-alive connection with at most one request under way; when that was sent, and when its answer came."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel's own limit: Python's would cost a system call for each answer.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", LONGEST_WAIT_SECONDS, 0))
        self.sent_at = self.received_at = 0.0
        self._requests = requests
        self._buffer = b""

    def send(self) -> None:
        self.send_one(next(self._requests))

    def send_one(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The status of a whole answer, or none while more of it is to come."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        self.received_at = time.perf_counter()
        if not data:
            raise ConnectionError("the server closed the connection")
        if self._buffer:
            data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0 or len(data) < head_end + 4 + _length(data, head_end):
            self._buffer = data
            return None
        self._buffer = b""
        return data[9:12]


def _length(data: bytes, head_end: int) -> int:
    """What the head says of the body's length; most servers write the name in one of two ways."""
    for name in (b"content-length:", b"Content-Length:"):
        at = data.find(name, 0, head_end)
        if at >= 0:
            return int(data[at + len(name) : data.index(b"\r", at)])
    at = data.lower().index(b"content-length:", 0, head_end)
    return int(data[at + 15 : data.index(b"\r", at)])
