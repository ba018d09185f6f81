"""KServe V1 and the Open Inference Protocol as KServe's own client speaks them, unmodified, in its own environment."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.tensor_bytes import DATATYPES
from tests.inference.conftest import PlaneSite

CLIENTS = Path(__file__).resolve().parent.parent / "clients"
LOCK = CLIENTS / "kserve.lock"
ROWS = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]


@pytest.fixture(scope="session")
def kserve_python(pytestconfig: pytest.Config) -> Path:
    """The Python of an environment made from the lock, once: the pins of KServe's client collide with ours."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("kserve-client")
    python, installed = folder / "bin" / "python", folder / LOCK.name
    if not installed.exists() or installed.read_bytes() != LOCK.read_bytes():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install(python)
        shutil.copy(LOCK, installed)
    return python


def install(python: Path) -> None:
    """Installs the lock. Without an index the tests are skipped, but never where CI is set."""
    options = ("--disable-pip-version-check", "--quiet", "--retries", "2", "--require-hashes", "--no-deps")
    done = subprocess.run(
        [str(python), "-m", "pip", "install", *options, "-r", str(LOCK)], capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        why = f"KServe's client could not be installed from {LOCK.name}: {done.stderr.strip().splitlines()[-1]}"
        if "No matching distribution" in done.stderr and not os.environ.get("CI"):
            pytest.skip(why)
        pytest.fail(f"{why}\n{done.stderr}")


def seen_by(python: Path, url: str, key: str) -> Any:
    """What KServe's client saw at a server."""
    driver = [str(python), str(CLIENTS / "kserve_client.py"), url, key, "identity", "same-", "vowels"]
    done = subprocess.run(driver, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(kserve_python: Path, every_dtype: PlaneSite, speaking: PlaneSite) -> Any:
    return seen_by(kserve_python, every_dtype.site.url, every_dtype.acme_key)


def test_the_server_is_live_and_ready(seen: Any) -> None:
    assert (seen["v1"]["live"], seen["v2"]["live"], seen["v2"]["server ready"]) == (True, True, True)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_model_is_ready_but_while_it_is_not_loaded(seen: Any, protocol: str) -> None:
    assert seen[protocol]["ready"] == [True, False, True]


def test_rows_and_columns_come_back(seen: Any) -> None:
    assert seen["v1"]["rows"] == {"predictions": ROWS}
    assert seen["v1"]["columns"] == {"outputs": ROWS}


def test_a_key_is_taken_in_every_header(seen: Any) -> None:
    assert seen["v1"]["bearer"] == seen["v1"]["basic"] == {"predictions": ROWS}
    assert seen["v2"]["bearer"] == [*ROWS[0], *ROWS[1]]


def test_the_answer_carries_name_id_and_headers(seen: Any) -> None:
    name, asked, request_id, limit = seen["v2"]["about"]
    assert (name, asked) == ("identity", "my-id")
    assert request_id
    assert '"minute";r=' in limit


@pytest.mark.parametrize("datatype", DATATYPES.values())
def test_every_datatype_comes_back_whatever_way_it_goes(seen: Any, datatype: str) -> None:
    about = dict(seen["datatypes"][datatype])
    sent = about.pop("sent")
    assert len(sent) == 5
    assert len(about) == (2 if datatype == "FP16" else 6)
    assert {way for way, found in about.items() if found != sent} == set()


def test_texts_are_rows_by_themselves(seen: Any) -> None:
    rows = [{"amount": "many", "vowels": 3.0}, {"amount": "few", "vowels": 0.0}]
    assert seen["v1"]["texts"] == {"predictions": rows}
    tensors = [["(2,)", b"many".hex(), b"few".hex()], ["(2,)", "00004040", "00000000"]]
    assert seen["v2"]["texts"] == [tensors, tensors]


REFUSALS = (
    ("v1", "unknown model", "Servable not found for request: Latest(nothing), '404 Not Found'"),
    ("v1", "unknown model's readiness", "Servable not found for request: Latest(nothing), '404 Not Found'"),
    ("v1", "bad shape", "got the shape [1, 2]; the input 'x' takes float32 of shape [rows, 4]., '400 Bad Request'"),
    ("v1", "bad key", "was revoked, or may not be used from your address., '401 Unauthorized'"),
    ("v1", "explain", "The method 'explain' is not served here: predict, classify or regress., '404 Not Found'"),
    ("v2", "unknown model", "There is no deployment 'nothing'., '404 Not Found'"),
    ("v2", "bad shape", "got the shape [2, 3]; the input 'x' takes float32 of shape [rows, 4]., '400 Bad Request'"),
    ("v2", "bad shape in binary", "got the shape [2, 3]; the input 'x' takes float32 of shape"),
    ("v2", "bad datatype", "got datatype FP64; this model takes FP32., '400 Bad Request'"),
    ("v2", "unknown output", "outputs[0]: got 'z'; this model gives y., '400 Bad Request'"),
    ("v2", "bad key", "was revoked, or may not be used from your address., '401 Unauthorized'"),
)


@pytest.mark.parametrize(("protocol", "what", "words"), REFUSALS)
def test_the_client_says_why_it_was_refused(seen: Any, protocol: str, what: str, words: str) -> None:
    assert words in seen[protocol][what]


def test_the_readiness_of_an_unknown_model_is_false(seen: Any) -> None:
    assert seen["v2"]["unknown model's readiness"] is False


class Proxy(http.server.BaseHTTPRequestHandler):
    """Takes the base path off, as where one host has several services; `server_url` is where requests go."""

    base_path = "/serving/here"
    server_url = ""

    def do_GET(self) -> None:
        assert self.path.startswith(self.base_path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        url = self.server_url + self.path.removeprefix(self.base_path)
        with httpx.stream(self.command, url, content=body, headers=headers) as answer:
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"".join(answer.iter_raw()))

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url_below_a_base_path(plane: PlaneSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Proxy, "server_url", plane.site.url)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{Proxy.base_path}"
        server.shutdown()


def test_all_is_the_same_below_a_base_path(
    kserve_python: Path, every_dtype: PlaneSite, seen: Any, url_below_a_base_path: str
) -> None:
    below = json.dumps(seen_by(kserve_python, url_below_a_base_path, every_dtype.acme_key)["v1"])
    assert below.replace(url_below_a_base_path, every_dtype.site.url) == json.dumps(seen["v1"])
