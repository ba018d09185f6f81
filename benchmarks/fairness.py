"""Fairness: how long a quiet tenant waits while another floods the server at ten times what it can do.

The quiet tenants ask ten times a second each, by turns on the idle server and beside the flood; the load generators run
on the same machine and take their share of it. Writes `benchmarks/results/fairness.json`.
"""

import gc
import json
import multiprocessing
import random
import selectors
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks import load, models
from tests.live import LiveSite, live_site
from tests.publishing import TINY, make_key, publish

TIMES_CAPACITY = 10
TARGET = 3.0
PER_SECOND = 10
# 600 answers of each kind: p99 is the seventh slowest of them.
ROUNDS = 6
SECONDS = 10.0
WARM_UP = 1.5
# The rows of one request of the flood, and how many connections to each process it then takes to keep its queue full.
FLOODS = {1: 1200, 64: 48}
QUIET = ("heavy", "tiny")
PROCESSES = (1, 2)
SIZE = 560
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Flood:
    """What a flood was answered, by status, and how many requests it offered a second."""

    answers: dict[str, int]
    offered: float


def main() -> None:
    rows = []
    for processes in PROCESSES:
        with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
            rows += list(_measured(site, Path(var), processes))
    _print(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fairness.json").write_text(json.dumps(rows, indent=1))
    print(f"written to {(RESULTS / 'fairness.json').relative_to(Path.cwd())}")


def heavy(path: Path, *, answer: float = 0.0) -> Path:
    """An ONNX file that takes some milliseconds for each row, and gives x + answer: (rows, 4) to (rows, 4)."""
    weights = np.zeros((SIZE, SIZE), np.float32)
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        helper.make_node("Unsqueeze", ["sum", "axis"], ["each"]),
        helper.make_node("Add", ["weights", "each"], ["moved"]),
        helper.make_node("MatMul", ["moved", "weights"], ["work"]),
        helper.make_node("ReduceSum", ["work", "all"], ["nothing"], keepdims=0),
        helper.make_node("Unsqueeze", ["nothing", "axis"], ["column"]),
        helper.make_node("Add", ["x", "column"], ["same"]),
        helper.make_node("Add", ["same", "more"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.full(4, answer, np.float32), "more"),
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(np.array([1, 2]), "all"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "heavy", ends[:1], ends[1:], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def _measured(site: LiveSite, folder: Path, processes: int) -> Iterator[dict[str, Any]]:
    keys = _opened(site, folder)
    site.start_server(processes=processes)
    for name in QUIET:
        _wait_until_answering(site, name, keys)
    rows_a_second = _capacity(site.port, keys["flood"])
    idle, beside, floods = _by_turns(site.port, keys, processes, rows_a_second)
    for rows in FLOODS:
        for name in QUIET:
            yield _row(name, processes, rows, rows_a_second, idle[name], beside[rows, name], floods[rows])


def _by_turns(
    port: int, keys: dict[str, str], processes: int, rows_a_second: float
) -> tuple[dict[str, list[float]], dict[tuple[int, str], list[float]], dict[int, list[Flood]]]:
    """Idle and beside each flood in turn, several rounds, because a machine's speed drifts: all milliseconds."""
    idle: dict[str, list[float]] = {name: [] for name in QUIET}
    beside: dict[tuple[int, str], list[float]] = {(rows, name): [] for rows in FLOODS for name in QUIET}
    floods: dict[int, list[Flood]] = {rows: [] for rows in FLOODS}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}, {processes} server processes …", flush=True)
        for name, found in _quiet(port, keys).items():
            idle[name] += found
        for rows, connections in FLOODS.items():
            offered = TIMES_CAPACITY * rows_a_second / rows
            with _flood(port, keys["flood"], rows, connections * processes, offered) as answers:
                time.sleep(WARM_UP)
                for name, found in _quiet(port, keys).items():
                    beside[rows, name] += found
            floods[rows] += answers
            time.sleep(WARM_UP)
    return idle, beside, floods


def _opened(site: LiveSite, folder: Path) -> dict[str, str]:
    """A tenant that floods, and one for each kind of model that a quiet tenant has: their keys."""
    files = {
        "heavy": heavy(folder / "heavy.onnx"),
        "tiny": models.made(folder / "models", "tiny.tflite")["tiny.tflite"],
    }
    about = {"heavy": TINY | {"engine": "onnx", "outputs": ("y", (-1, 4))}, "tiny": TINY}
    for tenant, model in (("flood", "heavy"), ("quiet-heavy", "heavy"), ("quiet-tiny", "tiny")):
        site.manage("create_tenant", tenant)
        publish(site, tenant=tenant, model=model, path=files[model], deployment=model, **about[model])
    site.python(
        "from tenants.models import Plan\n"
        "Plan.objects.filter(code='standard').update(predictions_per_minute=10**9, predictions_per_month=10**11)\n"
        "print(1)"
    )
    return {tenant: make_key(site, tenant) for tenant in ("flood", "quiet-heavy", "quiet-tiny")}


def _wait_until_answering(site: LiveSite, model: str, keys: dict[str, str]) -> None:
    for _ in range(32):  # several, so that each process has loaded it
        for tenant in ("flood", f"quiet-{model}") if model == "heavy" else (f"quiet-{model}",):
            headers = {"X-API-Key": keys[tenant]}
            url = f"{site.url}/v1/models/{model}:predict"
            answer = httpx.post(url, json={"instances": [[0, 0, 0, 0]]}, headers=headers, timeout=30)
            assert answer.status_code == 200, answer.text


def _capacity(port: int, key: str) -> float:
    """Rows a second of the model that is flooded, when the server has nothing else to do."""
    return load.run(port, [_request("heavy", key, 1)], connections=32, seconds=3.0).per_second


def _request(model: str, key: str, rows: int) -> bytes:
    body = json.dumps({"instances": [[0.0, 1.0, 2.0, 3.0]] * rows}).encode()
    return load.request(f"/v1/models/{model}:predict", key, body, "application/json")


def _quiet(port: int, keys: dict[str, str]) -> dict[str, list[float]]:
    """Milliseconds of each answer of the quiet tenants, who ask at their own pace whether they are answered or not."""
    requests = {name: _request(name, keys[f"quiet-{name}"], 1) for name in QUIET}
    found: dict[str, list[float]] = {name: [] for name in QUIET}
    sockets = {name: socket.create_connection(("127.0.0.1", port)) for name in QUIET}
    begun = time.perf_counter() + 0.1
    for due, name in _moments():
        time.sleep(max(0.0, begun + due - time.perf_counter()))
        asked = time.perf_counter()
        sockets[name].sendall(requests[name])
        answer = sockets[name].recv(65536)
        found[name].append((time.perf_counter() - asked) * 1e3)
        assert answer.startswith(b"HTTP/1.1 200"), answer
    return found


def _moments() -> list[tuple[float, str]]:
    """When who asks: each once in each tenth of a second, at any moment of it.

    At regular moments what a machine does once a second would meet one request of each second, or none at all.
    """
    numbers = range(int(SECONDS * PER_SECOND))
    return sorted(((number + random.random()) / PER_SECOND, name) for number in numbers for name in QUIET)


@contextmanager
def _flood(port: int, key: str, rows: int, connections: int, offered: float) -> Iterator[list[Flood]]:
    """A flood in a process of its own, from here to the end of the block; then the list has what it was answered."""
    found: list[Flood] = []
    done = multiprocessing.Event()
    answers: SimpleQueue[Flood] = multiprocessing.SimpleQueue()
    request = _request("heavy", key, rows)
    process = multiprocessing.Process(target=_flood_on, args=(port, request, connections, offered, done, answers))
    process.start()
    try:
        yield found
    finally:
        done.set()
        found.append(answers.get())
        process.join()


def _flood_on(
    port: int,
    request: bytes,
    connections: int,
    offered: float,
    done: Event,
    answers: "SimpleQueue[Flood]",
) -> None:
    """Sends so many requests a second, each on a connection that waits for no answer; what finds none is not sent."""
    gc.disable()  # it would hold up the server, too: this process has one of its processors meanwhile
    selector = selectors.EpollSelector()
    free = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for one in free:
        selector.register(one, selectors.EVENT_READ)
    counts: Counter[str] = Counter()
    begun, sent = time.perf_counter(), 0
    while not done.is_set():
        due = int((time.perf_counter() - begun) * offered) - sent
        for _ in range(due):
            sent += 1
            if free:
                free.pop().sendall(request)
            else:
                counts["no connection was free"] += 1
        for ready, _ in selector.select(timeout=0.001):
            connection = ready.fileobj
            assert isinstance(connection, socket.socket)
            answer = connection.recv(262144)
            if answer.startswith(b"HTTP/1.1 "):
                counts[answer[9:12].decode()] += 1
            if b"\r\n\r\n" in answer and (len(answer) < 4096 or answer.endswith(b"}")):
                free.append(connection)
    answers.put(Flood(dict(counts), sent / (time.perf_counter() - begun)))


def _row(
    name: str, processes: int, rows: int, capacity: float, idle: list[float], flooded: list[float], floods: list[Flood]
) -> dict[str, Any]:
    calm, beside = _p99(idle), _p99(flooded)
    answers: Counter[str] = sum((Counter(flood.answers) for flood in floods), Counter())
    return {
        "model": name,
        "processes": processes,
        "rows_of_the_floods_requests": rows,
        "capacity_rows_per_second": round(capacity, 1),
        "offered_rows_per_second": round(rows * statistics.mean(flood.offered for flood in floods), 1),
        "flood_answers": dict(answers),
        "idle_p50_ms": round(statistics.median(idle), 3),
        "idle_p99_ms": round(calm, 3),
        "flooded_p50_ms": round(statistics.median(flooded), 3),
        "flooded_p99_ms": round(beside, 3),
        "ratio": round(beside / calm, 2),
        "within": beside <= TARGET * calm,
    }


def _p99(milliseconds: list[float]) -> float:
    return statistics.quantiles(milliseconds, n=100)[98]


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"\n{psutil.cpu_count()} processors; a flood of {TIMES_CAPACITY} × capacity; "
          f"at most {TARGET:g} × is wanted")  # fmt: skip
    print(f"{'model':6} {'proc.':>5} {'flood rows':>10} {'capacity/s':>10} {'offered/s':>10} "
          f"{'idle p50':>9} {'p99 ms':>8} {'flooded p50':>12} {'p99 ms':>8} {'ratio':>6}  flood's answers")  # fmt: skip
    for row in rows:
        print(f"{row['model']:6} {row['processes']:5} {row['rows_of_the_floods_requests']:10} "
              f"{row['capacity_rows_per_second']:10,.0f} {row['offered_rows_per_second']:10,.0f} "
              f"{row['idle_p50_ms']:9.2f} {row['idle_p99_ms']:8.2f} {row['flooded_p50_ms']:12.2f} "
              f"{row['flooded_p99_ms']:8.2f} {row['ratio']:6.2f}{' ' if row['within'] else '!'} "
              f"{row['flood_answers']}")  # fmt: skip


if __name__ == "__main__":
    main()
