"""The short way and the long way from a socket to the plane: a client cannot tell which one its request took."""

import asyncio
import gc
import json
import socket
import time
import weakref
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from inference.plane import connection, http
from inference.plane.exchange import Answer, Deliver, Exchange, Request
from inference.plane.heads import KNOWN, KNOWN_BYTES, Head, KnownHeads
from inference.plane.http import SHORT_BODY_BYTES
from tests.inference.conftest import PlaneSite


def asked(row: list[float], *, path: str = "/v1/models/identity:predict", more: str = "", key: str = "") -> bytes:
    body = repr({"instances": [row]}).replace("'", '"').encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Line:
    """A raw connection that reads whole answers."""

    def __init__(self, plane: PlaneSite) -> None:
        self.socket = socket.create_connection(("127.0.0.1", plane.site.port), timeout=10)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of the next answer that is not an interim one."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            return self.read()
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(lines.get(b"content-length", b"0"))
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return status, head, body

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"the server closed the connection after {self._buffer!r}"
        self._buffer += data


@pytest.fixture
def line(plane: PlaneSite) -> Iterator[Line]:
    found = Line(plane)
    yield found
    found.socket.close()


def test_pipelined_requests_are_answered_in_their_order_whatever_way_each_takes(plane: PlaneSite, line: Line) -> None:
    key = plane.acme_key
    django = f"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n".encode()
    picture = b"no picture"
    slow = (
        f"POST /api/v1/deployments/cats/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    ).encode() + picture
    line.send(b"".join([asked([1, 0, 0, 0], key=key), slow, django, asked([2, 0, 0, 0], key=key), django, slow]))
    line.send(asked([3, 0, 0, 0], key=key) * 100)
    found = [line.read() for _ in range(106)]
    assert [status for status, _, _ in found[:6]] == [200, 400, 200, 200, 200, 400]
    assert found[0][2] == b'{"predictions":[[1.0,0.0,0.0,0.0]]}'
    assert found[3][2] == b'{"predictions":[[2.0,0.0,0.0,0.0]]}'
    assert {body for _, _, body in found[6:]} == {b'{"predictions":[[3.0,0.0,0.0,0.0]]}'}


def test_a_request_may_come_in_pieces(plane: PlaneSite, line: Line) -> None:
    whole = asked([1, 2, 3, 4], key=plane.acme_key)
    for at in range(0, len(whole), 7):
        line.send(whole[at : at + 7])
        time.sleep(0.001)
    assert line.read()[2] == b'{"predictions":[[1.0,2.0,3.0,4.0]]}'


@pytest.mark.parametrize("rows", [10, SHORT_BODY_BYTES // 20])
def test_a_body_is_answered_alike_on_either_way(plane: PlaneSite, line: Line, rows: int) -> None:
    body = b'{"instances":[' + b",".join([b"[1.5,2.5,3.5,4.5]"] * 10) + b"]" + b" " * rows * 20 + b"}"
    head = f"POST /v1/models/identity:predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {plane.acme_key}\r\n"
    line.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    status, head_of_answer, answer = line.read()
    assert (status, answer.count(b"[1.5,2.5,3.5,4.5]")) == (200, 10)
    assert b"x-request-id" in head_of_answer
    assert b"ratelimit" in head_of_answer
    line.send(f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
    assert line.read()[0] == 200


def test_a_client_that_waits_for_100_continue_gets_it(plane: PlaneSite, line: Line) -> None:
    whole = asked([1, 2, 3, 4], key=plane.acme_key, more="Expect: 100-continue\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    line.send(head + b"\r\n\r\n")
    assert line.socket.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(body)
    assert line.read()[0] == 200


def test_a_connection_is_closed_when_its_client_asks_for_it(plane: PlaneSite, line: Line) -> None:
    line.send(asked([1, 2, 3, 4], key=plane.acme_key, more="Connection: close\r\n"))
    status, head, _ = line.read()
    assert status == 200
    assert b"connection: close" in head
    assert line.is_closed()


def test_head_and_other_methods_are_refused_in_order(plane: PlaneSite, line: Line) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        line.send(
            f"{method} /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {plane.acme_key}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        assert line.read()[0] == 405
    line.send(f"HEAD /v1/models/tiny HTTP/1.1\r\nHost: x\r\nX-API-Key: {plane.acme_key}\r\n\r\n".encode())
    head = line.socket.recv(65536)
    assert head.endswith(b"\r\n\r\n")
    line.send(asked([1, 2, 3, 4], key=plane.acme_key))
    assert line.read()[0] == 200


def test_what_is_no_http_is_refused_and_the_server_lives(plane: PlaneSite, line: Line) -> None:
    line.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert line.read()[0] == 400
    assert line.is_closed()
    with plane.client() as client:
        assert client.get("/v1/models/tiny").status_code == 200


def test_a_head_that_came_before_is_as_one_that_is_new(plane: PlaneSite, line: Line) -> None:
    """On the same connection and on another one; its key is looked up, and its body read, each time anew."""
    for row in ([1.5, 0, 0, 0], [2.5, 0, 0, 0], [3.5, 0, 0, 0]):
        line.send(asked(row, key=plane.acme_key))
        assert line.read()[2] == b'{"predictions":[[%.1f,0.0,0.0,0.0]]}' % row[0]
    line.send(asked([10.5, 0, 0, 0], key=plane.acme_key) + asked([4.5, 0, 0, 0], key=plane.acme_key))
    assert [line.read()[2][17:21] for _ in range(2)] == [b"10.5", b"4.5,"]
    wrong = asked([1.5, 0, 0, 0], key="no such key")
    for _ in range(3):
        line.send(wrong)
        assert line.read()[0] == 401
    line.send(asked([1.5, 0, 0, 0], key=plane.acme_key).replace(b"[[1.5", b"[[what"[:5]))
    assert line.read()[0] == 400
    other = Line(plane)
    other.send(asked([5.5, 0, 0, 0], key=plane.acme_key))
    assert other.read()[2] == b'{"predictions":[[5.5,0.0,0.0,0.0]]}'
    other.socket.close()


def tensors_asked(
    row: list[float], *, key: str, length: int | None = None, path: str = "/v2/models/identity/infer"
) -> bytes:
    tensor = np.array([row], "<f4").tobytes()
    about = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(tensor)}}
    document = json.dumps({"inputs": [about], "parameters": {"binary_data_output": True}}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {len(document + tensor)}\r\n"
        f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {length or len(document)}\r\n\r\n"
    )
    return head.encode() + document + tensor


def test_tensors_behind_a_head_that_came_before_are_read_where_they_came(plane: PlaneSite, line: Line) -> None:
    for first in (1.5, -2.5, float("inf")):
        line.send(tensors_asked([first, 0, 0, 4], key=plane.acme_key))
        status, _, answer = line.read()
        assert (status, answer[-16:]) == (200, np.array([first, 0, 0, 4], "<f4").tobytes())
    for _ in range(3):  # also where nothing of it can be read
        line.send(tensors_asked([1, 2, 3, 4], key=plane.acme_key, length=4096))
        assert line.read()[0] == 400
        line.send(tensors_asked([1, 2, 3, 4], key=plane.acme_key, length=7))
        assert line.read()[0] == 400
        line.send(tensors_asked([1, 2, 3, 4], key=plane.acme_key, path="/v1/models/identity:predict"))
        assert line.read()[0] == 400


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that is never asked."""


class Served:
    """A connection without a socket, to a plane that only keeps what it is asked."""

    ready = True

    def __init__(self, *, answers: bool = True, keep_alive: float = 75) -> None:
        self.asked: list[Request] = []
        self.written: list[bytes] = []
        self.abandoned = 0
        self._answers = answers
        config = Config(app=_nothing, ws="none", log_config=None)
        config.load()
        self.protocol = http.for_plane(cast(Any, self))(config, ServerState(), {}, asyncio.get_running_loop())
        self.protocol.timeout_keep_alive = cast(int, keep_alive)
        self.protocol.connection_made(cast(Any, self))

    def begin(self, request: Request, deliver: Deliver) -> Exchange:
        self.asked.append(request)
        if self._answers:
            deliver(Answer(200, b"", []))
        return Exchange(request, deliver)

    def abandon(self, exchange: Exchange) -> None:
        self.abandoned += 1

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.written.append(b"closed")


def requests_of(*received: bytes) -> list[Request]:
    """The requests in what is received, in a process that knows no head."""

    async def serve() -> list[Request]:
        served = Served()
        for data in received:
            served.protocol.data_received(data)
        served.protocol.connection_lost(RuntimeError("the test is over"))
        return served.asked

    connection.known._new.clear()
    connection.known._old.clear()
    return asyncio.run(serve())


def heads_of(*received: bytes) -> list[Head]:
    return [request.head for request in requests_of(*received)]


def posted(body: bytes = b"{}", *, more: str = "") -> bytes:
    return f"POST /v1/models/x:predict HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_head_is_parsed_once() -> None:
    first, second = heads_of(posted(b"{}"), posted(b"[]"))
    assert first is second
    assert (first.method, first.path, first.body_bytes) == ("POST", "/v1/models/x:predict", 2)
    assert first.headers == {b"host": b"x", b"content-length": b"2"}


@pytest.mark.parametrize(
    ("path", "more", "kinds"),
    [
        ("/v2/models/x/infer", "Inference-Header-Content-Length: 1\r\n", [bytes, memoryview]),
        ("/v2/models/x/infer", "Inference-Header-Content-Length: 1\r\nContent-Encoding: gzip\r\n", [bytes, bytes]),
        ("/v2/models/x/infer", "", [bytes, bytes]),
        ("/v1/models/x:predict", "Inference-Header-Content-Length: 1\r\n", [bytes, bytes]),
    ],
)
def test_only_tensors_are_seen_in_place(path: str, more: str, kinds: list[type]) -> None:
    whole = posted(b"{}ABCD", more=more).replace(b"/v1/models/x:predict", path.encode())
    found = [request.body for request in requests_of(whole, whole)]
    assert [type(body) for body in found] == kinds
    assert [bytes(body) for body in found] == [b"{}ABCD"] * 2


@pytest.mark.parametrize(
    "received",
    [
        (posted(b"{}"), posted(b"{ }")),  # the length is part of the head
        (posted(), posted(more="X-Other: 1\r\n")),
        (posted() + posted(), posted()),  # two at once are left to the parser
        (posted()[:-1], posted()[-1:], posted()),  # as is what comes in pieces
        (posted(), posted()[:30], posted()[30:]),
        (b"\r\n" + posted(), posted()),
        (posted(b"\r\n\r\n"), posted(b"\r\n\r\n") + posted()),
    ],
)
def test_what_is_not_a_whole_request_with_the_same_head_is_parsed(received: tuple[bytes, ...]) -> None:
    found = heads_of(*received)
    assert len(found) == b"".join(received).count(b"POST")
    assert len({id(head) for head in found}) == len(found)


def test_a_head_as_long_as_the_one_before_it_is_another() -> None:
    one, other = posted(more="X-Other: 1\r\n"), posted(more="X-Other: 2\r\n")
    found = heads_of(one, one, one, other, one, other)
    assert [head.headers[b"x-other"] for head in found] == [b"1", b"1", b"1", b"2", b"1", b"2"]
    assert len({id(head) for head in found}) == 2


def test_a_connection_that_is_lost_is_let_go() -> None:
    async def serve() -> None:
        served = Served(answers=False)
        gone = weakref.ref(served.protocol)
        served.protocol.data_received(posted() * 3)
        assert (len(served.asked), served.abandoned) == (1, 0)  # the others wait for its answer
        served.protocol.connection_lost(RuntimeError("the test is over"))
        assert (len(served.asked), served.abandoned) == (1, 1)
        del served.protocol
        assert gone() is None

    gc.disable()
    try:
        asyncio.run(serve())
    finally:
        gc.enable()


def test_a_connection_that_stands_idle_is_closed() -> None:
    async def written(served: Served, asked_after: tuple[float, ...], until: float) -> list[bytes]:
        for seconds in asked_after:
            await asyncio.sleep(seconds)
            served.protocol.data_received(posted())
        await asyncio.sleep(until)
        served.protocol.connection_lost(RuntimeError("the test is over"))
        return [one[-6:] for one in served.written]

    async def serve() -> None:
        assert await written(Served(keep_alive=0.2), (), 0.5) == [b"closed"]
        found = await written(Served(keep_alive=0.5), (0.3, 0.3, 0.3), 1.0)  # counted from the last answer
        assert [one == b"closed" for one in found] == [False, False, False, True]
        assert await written(Served(answers=False, keep_alive=0.1), (0.05,), 0.5) == []

    asyncio.run(serve())


def test_a_body_that_looks_like_a_request_is_a_body() -> None:
    head, _, _ = posted(posted()).partition(posted())
    assert len(heads_of(posted(), head, posted(), posted())) == 3


def test_a_head_larger_than_what_is_kept_is_parsed_each_time() -> None:
    large = posted(more=f"X-Large: {'x' * KNOWN_BYTES}\r\n")
    first, second = heads_of(large, large)
    assert first is not second
    assert first.headers == second.headers


def test_what_comes_after_a_request_that_closes_is_not_answered() -> None:
    closing = posted(more="Connection: close\r\n")
    assert len(heads_of(posted(), closing, posted())) == 2


def test_heads_are_known_until_a_thousand_others_came() -> None:
    known, often, once = KnownHeads(), Head("GET", "/often", {}), Head("GET", "/once", {})
    known.put(b"often", often)
    known.put(b"once", once)
    for number in range(3 * KNOWN):
        known.put(str(number).encode(), Head("GET", "/", {}))
        assert known.get(b"often") is often
    assert known.get(b"once") is None
    assert len(known._new) <= KNOWN
    assert len(known._old) <= KNOWN
