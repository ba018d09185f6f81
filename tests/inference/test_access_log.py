"""The access log: whole lines of JSON with what was asked and answered, never a key; it can fail, requests do not."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference import access_log
from inference.access_log import Access, AccessLog
from tests.inference.conftest import PlaneSite
from tests.live import ROOT, free_port

BODY = {"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}
PREDICT = "/v1/models/tiny:predict"


def line(number: int, path: str = "/") -> Access:
    nothing: dict[str, Any] = dict.fromkeys(Access.__slots__)
    return Access(**nothing | {"request_id": str(number), "path": path})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in path.read_text().splitlines()]


def wait_for(path: Path, request_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while not (found := [one for one in lines(path) if one["request_id"] == request_id]):
        assert time.monotonic() < deadline, request_id
        time.sleep(0.05)
    (only,) = found
    return only


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "WRITE_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_lines_of_several_threads_are_whole_and_all_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "access.log"
    logs = [AccessLog(str(path)) for _ in range(2)]  # as two processes would

    def write(start: int) -> None:
        for number in range(start, start + 2000):
            logs[number % 2].add(line(number, "/ä\n\x00" + "x" * (number % 50)))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 8000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()
    assert sorted(int(one["request_id"]) for one in lines(path)) == list(range(8000))


@pytest.mark.usefixtures("quick")
def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path))
    log.add(line(1))
    wait_for(path, "1")
    path.rename(moved)
    log.add(line(2))
    log.close()
    assert [one["request_id"] for one in lines(moved)] == ["1"]
    assert [one["request_id"] for one in lines(path)] == ["2"]


def test_what_one_pipe_gets_from_many_is_never_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe keeps a write of at most PIPE_BUF together."""
    reader, writer = os.pipe()
    sizes = []
    write = os.write

    def measured(file: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(file, data)

    monkeypatch.setattr(AccessLog, "_opened", lambda self: writer)
    monkeypatch.setattr("inference.access_log.os.write", measured)
    log = AccessLog(access_log.STDOUT)
    for number in range(100):
        log.add(line(number, "x" * 200))
    log.close()
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert len(pipe.read().splitlines()) == 100
    assert len(sizes) > 1
    assert max(sizes) <= 4096


@pytest.mark.usefixtures("quick")
def test_a_reader_that_takes_nothing_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    _reader, writer = os.pipe()
    monkeypatch.setattr(AccessLog, "_opened", lambda self: writer)
    monkeypatch.setattr(access_log, "MOST_LINES", 1000)
    monkeypatch.setattr(access_log, "STOP_SECONDS", 0.2)
    log = AccessLog(access_log.STDOUT)
    started = time.monotonic()
    for number in range(5000):
        log.add(line(number, "x" * 200))
    log.close()
    assert time.monotonic() - started < 2
    assert log._lost > 0


@pytest.mark.usefixtures("quick")
def test_a_full_disk_costs_lines_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full")
    log.add(line(1))
    log.close()
    assert "1 lines of the access log /dev/full are lost: OSError" in caplog.text


@pytest.mark.parametrize(
    ("given", "found"),
    [(b"abc-1 2", "abc-1 2"), (b"", None), (b" a", None), (b"a\nb", None), (b"x" * 129, None), (b"\xc3\xa4", None)],
)
def test_what_a_caller_claims_is_written_if_it_is_short_and_printable(given: bytes, found: str | None) -> None:
    assert access_log.claimed(given) == found


@pytest.fixture(scope="module")
def server(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str, Path]]:
    """A server with an access log: its process id, its address, and the log."""
    port, path = free_port(), tmp_path_factory.mktemp("log") / "access.log"
    process = plane.site.start_server(port=port, ACCESS_LOG=str(path))
    yield process.pid, f"http://127.0.0.1:{port}", path
    process.terminate()
    process.wait(30)


@pytest.fixture
def logged(server: tuple[int, str, Path]) -> tuple[str, Path]:
    """The server's address, and its log."""
    return server[1:]


def test_a_prediction_has_its_line(plane: PlaneSite, logged: tuple[str, Path]) -> None:
    url, path = logged
    body = json.dumps(BODY)
    headers = {"X-API-Key": plane.acme_key, "X-Request-Id": "mine-1", "X-Forwarded-For": "192.0.2.7"}
    answer = httpx.post(f"{url}{PREDICT}?token=secret-token", content=body, headers=headers)
    assert answer.headers["x-request-id"] != "mine-1"
    found = wait_for(path, answer.headers["x-request-id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found.pop("tenant").startswith("ten_")
    assert found.pop("key").startswith("key_")
    assert 0 <= found.pop("queue_us") <= found["total_us"]
    assert 0 <= found.pop("compute_us") <= found.pop("total_us")
    assert found == {
        "request_id": answer.headers["x-request-id"], "client_request_id": "mine-1", "plane": "prediction",
        "deployment": "tiny", "version": "tiny@1", "protocol": "tensorflow-serving", "method": "POST",
        "path": PREDICT, "status": 200, "rows": 2, "bytes_in": len(body), "bytes_out": len(answer.content),
        "client": "127.0.0.1", "forwarded_for": "192.0.2.7",
    }  # fmt: skip
    text = path.read_text()
    assert not [secret for secret in (plane.acme_key, "secret-token", "instances") if secret in text]


@pytest.mark.parametrize(
    ("path", "headers", "about"),
    [
        (PREDICT, {}, {"status": 401, "tenant": None, "key": None, "deployment": None, "rows": None}),
        (PREDICT, {"X-API-Key": "{key}"}, {"status": 400, "deployment": "tiny", "version": "tiny@1", "rows": None}),
        (
            "/v1/models/none%0A%22:predict",
            {"X-API-Key": "{key}"},
            {"status": 404, "path": '/v1/models/none\n":predict'},
        ),
        ("/v2/models/tiny/infer", {"X-API-Key": "{key}"}, {"status": 400, "protocol": "open-inference"}),
        ("/v1/" + "ä" * 3000, {"X-API-Key": "{key}"}, {"status": 404, "path": "/v1/" + "ä" * 252}),
    ],
)
def test_a_refusal_has_its_line(
    plane: PlaneSite, logged: tuple[str, Path], path: str, headers: dict[str, str], about: dict[str, Any]
) -> None:
    url, log = logged
    sent = {name: value.format(key=plane.acme_key) for name, value in headers.items()}
    answer = httpx.post(url + path, content=b"{", headers=sent)
    found = wait_for(log, answer.headers["x-request-id"])
    assert about.items() <= found.items()


def test_who_is_refused_before_the_body_is_read_has_a_line(plane: PlaneSite, logged: tuple[str, Path]) -> None:
    """The long way, which large bodies take."""
    url, log = logged
    answer = httpx.post(url + PREDICT, content=b" " * 200_000)
    found = wait_for(log, answer.headers["x-request-id"])
    assert (answer.status_code, found["status"], found["client"]) == (401, 401, "127.0.0.1")


def test_who_left_has_a_line(plane: PlaneSite, server: tuple[int, str, Path]) -> None:
    pid, url, log = server
    port = int(url.rpartition(":")[2])
    body = json.dumps(BODY)
    head = f"POST /v1/models/nowhere:predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {plane.acme_key}\r\n"
    # A name that is not known is asked for once more, which takes a round trip to the database. The server finds the
    # request and its end together: it would be answered before a slow caller has left.
    os.kill(pid, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(f"{head}X-Request-Id: leaving\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    finally:
        os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 10
    while not (found := [one for one in lines(log) if one["client_request_id"] == "leaving"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [(one["status"], one["bytes_out"]) for one in found] == [(499, 0)]


def test_requests_of_the_control_plane_have_their_lines(plane: PlaneSite, logged: tuple[str, Path]) -> None:
    url, log = logged
    headers = {"Authorization": f"Bearer {plane.acme_key}", "X-Request-Id": "mine-2"}
    answer = httpx.get(f"{url}/api/v1/deployments?model=tiny", headers=headers)
    found = wait_for(log, answer.headers["x-request-id"])
    about = {
        "plane": "control", "client_request_id": "mine-2", "method": "GET", "path": "/api/v1/deployments",
        "status": 200, "bytes_out": len(answer.content), "client": "127.0.0.1",
    }  # fmt: skip
    assert about.items() <= found.items()
    assert (found["tenant"][:4], found["key"][:4]) == ("ten_", "key_")
    nobody = httpx.get(f"{url}/admin/login/")
    assert wait_for(log, nobody.headers["x-request-id"])["tenant"] is None
    assert plane.acme_key not in log.read_text()


def test_what_was_answered_last_is_written_before_the_end(plane: PlaneSite, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "access.log"
    server = plane.site.start_server(port=port, processes=2, ACCESS_LOG=str(log))
    headers = {"X-API-Key": plane.acme_key}
    ids = [
        httpx.post(f"http://127.0.0.1:{port}{PREDICT}", json=BODY, headers=headers).headers["x-request-id"]
        for _ in range(30)
    ]
    server.terminate()
    server.wait(30)
    assert sorted(one["request_id"] for one in lines(log)) == sorted(ids)


def test_requests_are_answered_where_the_log_cannot_be_written(plane: PlaneSite) -> None:
    port = free_port()
    server = plane.site.start_server(port=port, ACCESS_LOG="/dev/full")
    for _ in range(3):
        answer = httpx.post(f"http://127.0.0.1:{port}{PREDICT}", json=BODY, headers={"X-API-Key": plane.acme_key})
        assert answer.status_code == 200
        time.sleep(0.15)
    server.terminate()
    server.wait(30)


def test_a_log_that_cannot_be_opened_is_said_at_the_start(plane: PlaneSite, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiaas_site.server", "--port", str(free_port())],
        cwd=ROOT, env=plane.site.env | {"ACCESS_LOG": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"ACCESS_LOG is '{tmp_path}', which cannot be written" in done.stderr
