"""The limits that a server is measured against: the same engine in a bare loop, and the same server without work."""

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks import payloads
from tests.live import free_port

BATCH = 8
SECONDS = 1.0

Bare = Callable[[], float]


def loops(files: dict[str, Path], picture: bytes) -> dict[str, Bare]:
    """The bare loop of each kind of work; each call of one runs it for a second and gives the rows per second."""
    path = files["cnn.int8.tflite"]
    return {
        "tiny-json": tiny(files["tiny.tflite"]),
        "cnn-jpeg": cnn(path, picture, rows=BATCH),
        "cnn-tensor": cnn(path, None, rows=BATCH),
    }


def tiny(path: Path) -> Bare:
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


def cnn(path: Path, picture: bytes | None, *, rows: int) -> Bare:
    """Decode and run batches, as a script would, one loop for each core; without a picture the pixels are there."""
    steps = [_picture_step(path, picture, rows=rows, threads=1) for _ in range(psutil.cpu_count() or 1)]
    return lambda: _per_second(steps)


def _picture_step(path: Path, picture: bytes | None, *, rows: int, threads: int) -> Callable[[], int]:
    from ai_edge_litert.interpreter import Interpreter

    from modelhub import pictures

    ready = np.zeros(payloads.PICTURE, np.uint8)
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(into, (rows, *payloads.PICTURE))
    interpreter.allocate_tensors()
    batch = np.empty((rows, *payloads.PICTURE), np.float32)

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


def lone(path: Path, picture: bytes | None) -> Callable[[], float]:
    """Milliseconds from one picture to its score, decoded and run with as many threads as are quickest: the median."""
    one_after_another = [_picture_step(path, picture, rows=1, threads=count) for count in {1, psutil.cpu_count() or 1}]

    def milliseconds() -> float:
        return min(_median_ms(step) for step in one_after_another)

    return milliseconds


def _median_ms(step: Callable[[], int]) -> float:
    found = []
    until = time.perf_counter() + SECONDS / 2
    while time.perf_counter() < until:
        started = time.perf_counter()
        step()
        found.append(time.perf_counter() - started)
    return statistics.median(found) * 1e3


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
def server() -> Iterator[int]:
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
