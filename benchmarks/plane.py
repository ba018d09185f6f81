"""Predictions a second through HTTP, beside the bare loop of the same engine and the bare server, in one run.

Authentication, quota and metering are on. The load generator runs on the same machine and takes its share of it.
Writes `benchmarks/results/plane.json`.
"""

import contextlib
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks import chart, load, models
from benchmarks.load import Load
from tests.live import LiveSite, free_port, live_site
from tests.publishing import CNN, TINY, make_key, publish

CONNECTIONS = (1, 16, 64)
ROUNDS = 5
SECONDS = 1.0
WARM_UP = 0.3
BATCH = 8
RESULTS = Path(__file__).parent / "results"
PICTURE = (150, 150, 3)
# On two processors two processes are faster than one: each has a Python lock of its own.
PROCESSES = max(1, min(4, psutil.cpu_count() or 1))
TINY_BODY = b'{"instances":[[1.0,2.0,3.0,4.0]]}'

Bare = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Round:
    """What the plane did, and what the bare engine loop and the bare server did beside it, per second."""

    found: Load
    limit: float
    server: float


def main() -> None:
    with tempfile.TemporaryDirectory() as var:
        files = models.made(Path(var) / "models", "tiny.tflite", "cnn.int8.tflite")
        picture = _picture()
        cnn = files["cnn.int8.tflite"]
        bare = {
            "tiny-json": _bare_tiny(files["tiny.tflite"]),
            "cnn-jpeg": _bare_cnn(cnn, picture, rows=BATCH),
            "cnn-tensor": _bare_cnn(cnn, None, rows=BATCH),
        }
        batches = _by_batch_size(cnn, picture)
        with live_site(Path(var)) as site, _bare_server() as bare_port:
            rows = _measured(bare, bare_port, site.port, _opened(site, files, picture))
    _print(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plane.json").write_text(json.dumps(rows, indent=1))
    (RESULTS / "plane.svg").write_text(chart.drawn(rows, batches))
    for name in ("plane.json", "plane.svg"):
        print(f"written to {(RESULTS / name).relative_to(Path.cwd())}")


def _opened(site: LiveSite, files: dict[str, Path], picture: bytes) -> dict[str, bytes]:
    """Starts the server with both models deployed; gives the request of each kind of work."""
    site.manage("create_tenant", "bench")
    publish(site, tenant="bench", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    publish(site, tenant="bench", model="cats", path=files["cnn.int8.tflite"], deployment="cats", **CNN)
    _lift_limits(site)
    key = make_key(site, "bench")
    started = time.perf_counter()
    process = site.start_server(processes=PROCESSES)
    held = sum(one.memory_info().rss for one in psutil.Process(process.pid).children(recursive=True))
    print(f"{PROCESSES} server processes: start {time.perf_counter() - started:.2f} s, "
          f"{held / 1e6:.0f} MB when they answer")  # fmt: skip
    _wait_until_answering(site, key)
    return {
        "tiny-json": load.request("/v1/models/tiny:predict", key, TINY_BODY, "application/json"),
        "cnn-jpeg": load.request("/api/v1/deployments/cats/predict", key, picture, "image/jpeg"),
        "cnn-tensor": _tensor_request(key),
    }


def _tensor_request(key: str) -> bytes:
    """A picture as its raw pixels, by the Open Inference Protocol's binary extension."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, *PICTURE],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": math.prod(PICTURE)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    pixels = np.random.default_rng(0).integers(0, 255, PICTURE, dtype=np.uint8)
    return load.request(
        "/v2/models/cats/infer", key, head + pixels.tobytes(), "application/octet-stream", headers=length
    )


def _by_batch_size(path: Path, picture: bytes) -> dict[int, float]:
    """Pictures a second of the bare loop by batch size: decode and run, on all cores."""
    return {rows: _bare_cnn(path, picture, rows=rows)() for rows in (1, 2, 4, 8, 16, 32)}


def _measured(bare: dict[str, Bare], bare_port: int, port: int, requests: dict[str, bytes]) -> list[dict[str, Any]]:
    """Everything in turn, several rounds, because a machine's speed drifts; the median of each figure and ratio."""
    rounds: dict[tuple[str, int], list[Round]] = {}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS} …", flush=True)
        for work, request in requests.items():
            limit = bare[work]()
            for connections in CONNECTIONS:
                server = load.run(bare_port, [request], connections=connections, seconds=SECONDS, warm_up=WARM_UP)
                found = load.run(port, [request], connections=connections, seconds=SECONDS, warm_up=WARM_UP)
                rounds.setdefault((work, connections), []).append(Round(found, limit, server.per_second))
    return [_row(work, connections, found) for (work, connections), found in rounds.items()]


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'work':10} {'conn.':>5} {'per second':>11} {'p50 ms':>8} {'p99 ms':>8} {'errors':>7} "
          f"{'bare engine/s':>14} {'ratio':>6} {'bare server/s':>14} {'ratio':>6}")  # fmt: skip
    for row in rows:
        print(f"{row['work']:10} {row['connections']:5} {row['per_second']:11,.0f} {row['p50_ms']:8.2f} "
              f"{row['p99_ms']:8.2f} {row['errors']:7} {row['limit_per_second']:14,.0f} {row['of_limit']:6.1%} "
              f"{row['bare_server_per_second']:14,.0f} {row['of_bare_server']:6.1%}")  # fmt: skip


def _row(work: str, connections: int, rounds: list[Round]) -> dict[str, Any]:
    def median(figure: Callable[[Round], float], digits: int) -> float:
        return round(statistics.median(figure(one) for one in rounds), digits)

    return {
        "work": work,
        "connections": connections,
        "per_second": median(lambda r: r.found.per_second, 1),
        "p50_ms": median(lambda r: r.found.p50_ms, 3),
        "p99_ms": median(lambda r: r.found.p99_ms, 3),
        "errors": sum(one.found.errors for one in rounds),
        "limit_per_second": median(lambda r: r.limit, 1),
        "of_limit": median(lambda r: r.found.per_second / r.limit, 4),
        "bare_server_per_second": median(lambda r: r.server, 1),
        "of_bare_server": median(lambda r: r.found.per_second / r.server, 4),
    }


def _lift_limits(site: LiveSite) -> None:
    """A plan whose limits no benchmark reaches; they are counted all the same."""
    site.python(
        "from tenants.models import Plan\n"
        "Plan.objects.filter(code='standard').update(predictions_per_minute=10**9, predictions_per_month=10**11)\n"
        "print(1)"
    )


def _wait_until_answering(site: LiveSite, key: str) -> None:
    for name, row in (("tiny", [0.0] * 4), ("cats", np.zeros((150, 150, 3)).tolist())):
        answer = httpx.post(
            f"{site.url}/v1/models/{name}:predict",
            json={"instances": [row]},
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text


def _picture() -> bytes:
    """A JPEG of 150×150 that compresses like a photograph."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((150, 150), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _bare_tiny(path: Path) -> Bare:
    """The engine alone, one row at a time, on one core."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    row = np.ones((1, 4), np.float32)

    def step() -> int:
        interpreter.set_tensor(into, row)
        interpreter.invoke()
        interpreter.get_tensor(out)
        return 1

    return lambda: _per_second([step])


def _bare_cnn(path: Path, picture: bytes | None, *, rows: int) -> Bare:
    """Decode and run batches, as a script would, one loop for each core; without a picture the pixels are there."""
    from ai_edge_litert.interpreter import Interpreter

    from modelhub import pictures

    ready = np.zeros(PICTURE, np.uint8)

    def make() -> Callable[[], int]:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        interpreter.resize_tensor_input(into, (rows, *PICTURE))
        interpreter.allocate_tensors()
        batch = np.empty((rows, *PICTURE), np.float32)

        def step() -> int:
            for row in batch:
                pixels = ready
                if picture is not None:
                    pixels = pictures.resize(pictures.decode(picture, max_pixels=10**7), height=150, width=150)
                np.multiply(pixels, np.float32(1 / 255), out=row)
            interpreter.set_tensor(into, batch)
            interpreter.invoke()
            interpreter.get_tensor(out)
            return rows

        return step

    steps = [make() for _ in range(psutil.cpu_count() or 1)]
    return lambda: _per_second(steps)


def _per_second(steps: list[Callable[[], int]]) -> float:
    """What the steps do together, each in a thread of its own."""
    counts = [0] * len(steps)
    begun = time.perf_counter()
    until = begun + SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < until:
            counts[number] += steps[number]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


@contextlib.contextmanager
def _bare_server() -> Iterator[int]:
    """The same server with an application that does nothing: its port."""
    port = free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_asgi:application", "--port", str(port), *options]
    process = subprocess.Popen([*command, "--lifespan", "off"])
    try:
        for _ in range(100):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
