"""Predictions a second through HTTP, beside the bare loop of the same engine and the bare server, in one run.

Authentication, quota and metering are on. The load generator runs on the same machine and takes its share of it.
Writes `benchmarks/results/plane.json`.
"""

import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks import load, models
from benchmarks.load import Load
from tests.live import LiveSite, free_port, live_site
from tests.publishing import CNN, TINY, make_key, publish

CONNECTIONS = (1, 16, 64)
SECONDS = 4.0
BATCH = 8
RESULTS = Path(__file__).parent / "results"
TINY_BODY = b'{"instances":[[1.0,2.0,3.0,4.0]]}'


def main() -> None:
    with tempfile.TemporaryDirectory() as var:
        files = models.made(Path(var) / "models", "tiny.tflite", "cnn.int8.tflite")
        picture = _picture()
        bare = {"tiny-json": _bare_tiny(files["tiny.tflite"]), "cnn-jpeg": _bare_cnn(files["cnn.int8.tflite"], picture)}
        server = _bare_server()
        print(f"bare engine loop, all cores: tiny, batch 1 {bare['tiny-json']:,.0f}/s; "
              f"seed CNN int8 with JPEG decoding, batch {BATCH} {bare['cnn-jpeg']:,.0f}/s")  # fmt: skip
        with live_site(Path(var)) as site:
            rows = _through_http(site, files, picture, bare, server)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plane.json").write_text(json.dumps(rows, indent=1))
    print(f"written to {(RESULTS / 'plane.json').relative_to(Path.cwd())}")


def _through_http(
    site: LiveSite, files: dict[str, Path], picture: bytes, bare: dict[str, float], server: dict[int, Load]
) -> list[dict[str, Any]]:
    site.manage("create_tenant", "bench")
    publish(site, tenant="bench", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    publish(site, tenant="bench", model="cats", path=files["cnn.int8.tflite"], deployment="cats", **CNN)
    _lift_limits(site)
    key = make_key(site, "bench")
    started = time.perf_counter()
    process = site.start_server()
    print(f"server start {time.perf_counter() - started:.2f} s, "
          f"{psutil.Process(process.pid).memory_info().rss / 1e6:.0f} MB when it answers")  # fmt: skip
    work = {
        "tiny-json": load.request("/v1/models/tiny:predict", key, TINY_BODY, "application/json"),
        "cnn-jpeg": load.request("/api/v1/deployments/cats/predict", key, picture, "image/jpeg"),
    }
    _wait_until_answering(site, key)
    print(f"\n{'work':10} {'conn.':>5} {'per second':>11} {'p50 ms':>8} {'p99 ms':>8} {'errors':>7} "
          f"{'of bare engine':>15} {'of bare server':>15}")  # fmt: skip
    rows = []
    for name, prepared in work.items():
        for connections in CONNECTIONS:
            found = load.run(site.port, [prepared], connections=connections, seconds=SECONDS)
            rows.append(_row(name, found, bare[name], server[connections]))
            limit = f"{found.per_second / server[connections].per_second:15.0%}" if name == "tiny-json" else ""
            print(f"{name:10} {connections:5} {found.per_second:11,.0f} {found.p50_ms:8.2f} {found.p99_ms:8.2f} "
                  f"{found.errors:7} {found.per_second / bare[name]:15.1%} {limit}")  # fmt: skip
    return rows


def _row(work: str, found: Load, bare: float, server: Load) -> dict[str, Any]:
    return {
        "work": work,
        "connections": found.connections,
        "per_second": round(found.per_second, 1),
        "p50_ms": round(found.p50_ms, 3),
        "p99_ms": round(found.p99_ms, 3),
        "errors": found.errors,
        "limit_per_second": round(bare, 1),
        "bare_server_per_second": round(server.per_second, 1),
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


def _bare_tiny(path: Path) -> float:
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

    return _per_second([step])


def _bare_cnn(path: Path, picture: bytes) -> float:
    """Decode and run, as a script would, one loop for each core."""
    from ai_edge_litert.interpreter import Interpreter

    from modelhub import pictures

    def make() -> Callable[[], int]:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        interpreter.resize_tensor_input(into, (BATCH, 150, 150, 3))
        interpreter.allocate_tensors()
        rows = np.empty((BATCH, 150, 150, 3), np.float32)

        def step() -> int:
            for row in rows:
                pixels = pictures.resize(pictures.decode(picture, max_pixels=10**7), height=150, width=150)
                np.multiply(pixels, np.float32(1 / 255), out=row)
            interpreter.set_tensor(into, rows)
            interpreter.invoke()
            interpreter.get_tensor(out)
            return BATCH

        return step

    return _per_second([make() for _ in range(psutil.cpu_count() or 1)])


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


def _bare_server() -> dict[int, Load]:
    """The same server and load generator with an application that does nothing."""
    port = free_port()
    options = [
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--no-access-log",
        "--log-level",
        "warning",
        "--lifespan",
        "off",
    ]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_asgi:application", "--port", str(port), *options]
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            try:
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        request = load.request("/", "key", TINY_BODY, "application/json")
        return {n: load.run(port, [request], connections=n, seconds=SECONDS / 2) for n in CONNECTIONS}
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
