"""Real requests, mutated, at every parser of a running server: never a 500, never a hang, never a dead worker."""

import json
import random
import socket
import time

import numpy as np

from tests.inference.conftest import PlaneSite
from tests.inference.test_plane import picture

SECONDS = 15
ANSWER_WITHIN_SECONDS = 10
HEAD = json.dumps(
    {
        "id": "a",
        "inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
        "parameters": {"timeout": 1000000, "priority": 1},
    }
).encode()
WILD = [
    b"-1",
    b"0",
    b"1e400",
    b"99999999999999999999",
    b"null",
    b"NaN",
    b"[]",
    b"{}",
    b'"x"',
    b"true",
    b"\x00",
    b"\xff",
]


def seeds() -> list[tuple[str, dict[str, str], bytes]]:
    """A good request of each kind: path, headers, body."""
    form = (
        b'--X\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + picture("JPEG", (30, 30))
        + b"\r\n--X--\r\n"
    )
    rows = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    return [
        ("/v1/models/tiny:predict", {}, b'{"signature_name": "", "instances": [[1, 2, 3, 4], [5, 6, 7, 8.5]]}'),
        ("/v1/models/tiny/versions/1:predict", {}, b'{"inputs": {"x": [[1, 2, 3, 4]]}}'),
        ("/v1/models/tiny:classify", {}, b'{"context": {"x": [1, 2, 3, 4]}, "examples": [{}, {"x": [4, 3, 2, 1]}]}'),
        ("/v1/models/cats:predict", {}, b'{"instances": [{"b64": "/9j/4AAQ"}]}'),
        ("/v2/models/tiny/infer", {"Inference-Header-Content-Length": str(len(HEAD))}, HEAD + b"\x01" * 32),
        ("/v2/models/tiny/infer", {"Inference-Header-Content-Length": "0"}, np.ones((2, 4), np.float32).tobytes()),
        ("/v2/models/tiny/infer", {"Accept-Encoding": "gzip"}, json.dumps({"inputs": [rows]}).encode()),
        ("/v2/repository/index", {}, b"{}"),
        ("/api/v1/deployments/cats/predict", {"Content-Type": "image/jpeg"}, picture("JPEG", (40, 40))),
        ("/api/v1/deployments/cats/predict", {"Content-Type": "image/png"}, picture("PNG", (20, 20))),
        ("/api/v1/deployments/cats/predict", {"Content-Type": "multipart/form-data; boundary=X"}, form),
        ("/api/v1/deployments/tiny/predict", {"Content-Type": "application/json"}, b'{"instances": [[1, 2, 3, 4]]}'),
    ]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with a few bits turned, pieces cut, doubled or moved, and wild values put in."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice((1, 2, 8, 64)))
        match chance.randrange(5):
            case 0 if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                del found[at:end]
            case 2:
                found[at:at] = found[at:end] * chance.choice((1, 3, 50))
            case 3:
                found[at:end] = chance.choice(WILD)
            case _:
                del found[at:]
    return bytes(found)


def request(chance: random.Random, key: str) -> bytes:
    path, headers, body = chance.choice(seeds())
    which = chance.random()
    if which < 0.8:
        body = mutated(body, chance)
    head = {"Host": "x", "X-API-Key": key, "X-Request-Timeout": "5"} | headers
    if which > 0.7:
        name = chance.choice(list(head)[2:])
        head[name] = mutated(head[name].encode(), chance).decode("latin-1").translate({10: 32, 13: 32, 0: 32})
    if which > 0.95:
        head["Content-Encoding"] = chance.choice(("gzip", "deflate", "br"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


def status_of(port: int, sent: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_SECONDS) as line:
        line.sendall(sent)
        return int(line.recv(65536).split()[1])


def test_no_mutated_request_is_a_fault_or_hangs(plane: PlaneSite) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    until = time.monotonic() + SECONDS
    statuses: dict[int, int] = {}
    while time.monotonic() < until:
        sent = request(chance, plane.acme_key)
        try:
            status = status_of(plane.site.port, sent)
        except (TimeoutError, IndexError) as error:
            raise AssertionError(f"seed {seed}: no answer to {sent!r}: {error}") from error
        assert status < 500 or status == 504, f"seed {seed}: {status} for {sent!r}"
        statuses[status] = statuses.get(status, 0) + 1
    assert statuses[200] > 10, statuses
    assert statuses[400] > 10, statuses
    assert all(process.poll() is None for process in plane.site.processes[:1])
