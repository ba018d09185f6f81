"""The short way and the long way from a socket to the plane: a client cannot tell which one its request took."""

import socket
import time
from collections.abc import Iterator

import pytest

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
