"""A thousand requests a second of mixed traffic, for ten minutes: is there an error, does memory grow, does p99 hold?

Requests are sent by the clock, whether or not those before are answered, and each latency is counted from the moment at
which its request was due: a server that stalls is charged for everyone who waits. Three tenants with two deployments
each; rows as JSON over all three protocols, tensors as bytes, JPEGs, and requests that must be refused. The load
generator runs on the same machine; how late requests were sent (`late`), for want of a processor or a free connection,
is told beside, because that is in every latency.

Memory is the resident set of all server processes, without the database. The rules: no error; the median of the last
minute's memory is at most 1.03 times the median of the last ten seconds of the first; the median p99 of the last three
minutes is at most 1.5 times that of the three after the first. In a run of less than six minutes (`--seconds`) a sixth
of it stands for a minute. Writes `benchmarks/results/soak.json`; the exit status is 1 if a rule does not hold. Not part
of `make bench`: `make bench-soak`, or `python -m benchmarks soak`.
"""

import argparse
import json
import os
import random
import selectors
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from benchmarks import load, models, ours, payloads
from benchmarks.load import Connection
from tests.live import LiveSite, live_site
from tests.publishing import make_key

RESULTS = Path(__file__).parent / "results"
RATE = 1000
SECONDS = 600
MINUTE = 60.0
CONNECTIONS = 128
DRAIN_SECONDS = 10.0
SAMPLE_SECONDS = 1.0
MEMORY_LIMIT = 1.03
P99_LIMIT = 1.5
TENANTS = ("acme", "globex", "initech")
JSON, OCTETS = "application/json", "application/octet-stream"
# Requests of each kind in a hundred. Two cores bear these along with the load generator; pictures cost most.
MIX = {
    "row, TensorFlow Serving": 30,
    "row, Open Inference": 15,
    "row, native": 15,
    "row as a tensor": 10,
    "JPEG": 15,
    "pixels as a tensor": 10,
    "to be refused": 5,
}
REFUSED = "to be refused"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as bytes, and of which kind it is."""

    kind: str
    data: bytes

    def is_right(self, status: bytes) -> bool:
        return status[:1] == b"4" if self.kind == REFUSED else status == b"200"


@dataclass(slots=True)
class Period:
    """What happened in a minute (or what stands for one), by the moment at which requests were due."""

    latencies: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    sent: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    seconds = parser.parse_args().seconds
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as var:
        files = models.made(Path(var) / "models", "tiny.tflite", "cnn.int8.tflite")
        with live_site(Path(var)) as site:
            asked = _opened(site, files)
            server = psutil.Process(site.processes[0].pid)
            run = Run(site.port, asked, server, seconds=seconds)
            run.go()
    result = _summed(run) | {"load_average_before": before, "load_average_after": os.getloadavg()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(result, indent=1))
    print(f"written to {(RESULTS / 'soak.json').relative_to(Path.cwd())}")
    return 0 if all(rule["holds"] for rule in result["rules"].values()) else 1


class Run:
    """The traffic, sent by the clock on a few connections; what is due while all are busy waits, and is charged for."""

    def __init__(self, port: int, asked: Sequence[Asked], server: psutil.Process, *, seconds: int) -> None:
        self.seconds = seconds
        self.minute = min(MINUTE, seconds / 6)
        self.periods = [Period() for _ in range(max(1, round(seconds / self.minute)))]
        self.by_kind: dict[str, list[float]] = {kind: [] for kind in MIX}
        self._port = port
        self._asked = asked
        self._server = server
        self._selector = selectors.EpollSelector()
        self._free: deque[Connection] = deque()
        self._busy: dict[Connection, tuple[Asked, float]] = {}
        self._waiting: deque[tuple[Asked, float]] = deque()
        self._begun = 0.0

    def go(self) -> None:
        """Sends everything, then waits for the last answers."""
        for _ in range(CONNECTIONS):
            self._connect()
        self._begun = next_due = next_sample = time.perf_counter()
        shown = sent = 0
        total = self.seconds * RATE
        while sent < total or ((self._busy or self._waiting) and time.perf_counter() < next_due + DRAIN_SECONDS):
            now = time.perf_counter()
            while sent < total and next_due <= now:
                self._waiting.append((self._asked[sent % len(self._asked)], next_due))
                sent += 1
                next_due = self._begun + sent / RATE
            if now >= next_sample:
                self._sample(now)
                next_sample += SAMPLE_SECONDS
            self._send_waiting()
            self._receive(max(0.0, next_due - time.perf_counter()) if sent < total else 0.1)
            # A period is shown when the next one is well on its way, so that its last answers are in it.
            if shown < len(self.periods) - 1 and now > self._begun + (shown + 1) * self.minute + 1:
                _show(shown, self.periods[shown])
                shown += 1
        self._give_up()
        for number in range(shown, len(self.periods)):
            _show(number, self.periods[number])

    def _connect(self) -> None:
        connection = Connection(self._port, iter(()))
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._free.append(connection)

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            asked, due = self._waiting.popleft()
            connection = self._free.popleft()
            now = time.perf_counter()
            period = self._period(due)
            period.sent += 1
            period.lateness.append(now - due)
            self._busy[connection] = (asked, due)
            try:
                connection.send_one(asked.data)
            except OSError as error:
                self._lost(connection, repr(error))

    def _receive(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            connection: Connection = key.data
            try:
                status = connection.receive()
            except (OSError, ValueError) as error:
                self._lost(connection, repr(error))
                continue
            if status is not None:
                self._answered(connection, status)

    def _answered(self, connection: Connection, status: bytes) -> None:
        asked, due = self._busy.pop(connection)
        latency = time.perf_counter() - due
        period = self._period(due)
        period.latencies.append(latency)
        self.by_kind[asked.kind].append(latency)
        if not asked.is_right(status):
            period.errors[f"{asked.kind}: {status.decode()}"] += 1
        self._free.append(connection)

    def _lost(self, connection: Connection, why: str) -> None:
        """A connection that broke: an error if it was busy; a new one takes its place."""
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection in self._busy:
            asked, due = self._busy.pop(connection)
            self._period(due).errors[f"{asked.kind}: {why}"] += 1
        else:
            self._free.remove(connection)
        self._connect()

    def _give_up(self) -> None:
        """What is not answered by now is an error."""
        for asked, due in (*self._busy.values(), *self._waiting):
            self._period(due).errors[f"{asked.kind}: not answered"] += 1
        for connection in (*self._busy, *self._free):
            connection.socket.close()
        self._selector.close()

    def _sample(self, now: float) -> None:
        processes = [self._server, *self._server.children(recursive=True)]
        self._period(now).memory.append(sum(one.memory_info().rss for one in processes))

    def _period(self, moment: float) -> Period:
        number = int((moment - self._begun) / self.minute)
        return self.periods[min(number, len(self.periods) - 1)]


def _opened(site: LiveSite, files: dict[str, Path]) -> list[Asked]:
    """Starts the server with every tenant's deployments; gives the requests in the order in which they are sent."""
    keys = []
    for tenant in TENANTS:
        site.manage("create_tenant", tenant)
        ours.publish_both(site, tenant, files)
        keys.append(make_key(site, tenant))
    ours.lift_limits(site)
    ours.start(site)
    for key in keys:
        ours.wait_until_answering(site, key)
    picture = payloads.picture()
    asked = [one for key in keys for one in _hundred(key, picture)]
    random.Random(0).shuffle(asked)
    return asked


def _hundred(key: str, picture: bytes) -> Iterator[Asked]:
    """A hundred requests of one tenant."""
    makers = {
        "row, TensorFlow Serving": [load.request("/v1/models/tiny:predict", key, ours.TINY_BODY, JSON)],
        "row, Open Inference": [load.request("/v2/models/tiny/infer", key, _open_inference_row(), JSON)],
        "row, native": [load.request("/api/v1/deployments/tiny/predict", key, ours.TINY_BODY, JSON)],
        "row as a tensor": [_tensor("tiny", key, *_row_tensor())],
        "JPEG": [load.request("/api/v1/deployments/cats/predict", key, picture, "image/jpeg")],
        "pixels as a tensor": [_tensor("cats", key, *payloads.pixels_tensor())],
        REFUSED: _to_be_refused(key),
    }
    for kind, count in MIX.items():
        for number in range(count):
            yield Asked(kind, makers[kind][number % len(makers[kind])])


def _to_be_refused(key: str) -> list[bytes]:
    """A row of the wrong length, a deployment that there is not, a wrong key, a file that is no picture, no JSON."""
    return [
        load.request("/v1/models/tiny:predict", key, b'{"instances":[[1.0,2.0]]}', JSON),
        load.request("/v2/models/missing/infer", key, _open_inference_row(), JSON),
        load.request("/v1/models/tiny:predict", f"{key[:-4]}0000", ours.TINY_BODY, JSON),
        load.request("/api/v1/deployments/cats/predict", key, b"no picture", "image/jpeg"),
        load.request("/api/v1/deployments/tiny/predict", key, b'{"instances":', JSON),
    ]


def _open_inference_row() -> bytes:
    given = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": payloads.TINY_ROW}
    return orjson.dumps({"inputs": [given]})


def _row_tensor() -> tuple[bytes, dict[str, str]]:
    return payloads.binary_tensor("x", "FP32", [1, 4], np.array(payloads.TINY_ROW, np.float32).tobytes())


def _tensor(deployment: str, key: str, body: bytes, headers: dict[str, str]) -> bytes:
    return load.request(f"/v2/models/{deployment}/infer", key, body, OCTETS, headers=headers)


def _show(number: int, period: Period) -> None:
    row = _row(number, period)
    if number == 0:
        print(f"{'minute':>6} {'sent':>8} {'errors':>7} {'p50 ms':>8} {'p99 ms':>8} {'late ms':>8} {'MB':>7}")
    print(f"{row['minute']:6} {row['sent']:8,} {row['errors']:7} {row['p50_ms']:8.2f} {row['p99_ms']:8.2f} "
          f"{row['late_p99_ms']:8.2f} {row['memory_mb']:7.1f}", flush=True)  # fmt: skip


def _row(number: int, period: Period) -> dict[str, Any]:
    return {
        "minute": number + 1,
        "sent": period.sent,
        "errors": period.errors.total(),
        "p50_ms": _percentile(period.latencies, 50),
        "p99_ms": _percentile(period.latencies, 99),
        "late_p99_ms": _percentile(period.lateness, 99),
        "memory_mb": round(statistics.median(period.memory) / 1e6, 1) if period.memory else float("nan"),
    }


def _summed(run: Run) -> dict[str, Any]:
    """Every figure, and whether each rule holds."""
    rows = [_row(number, period) for number, period in enumerate(run.periods)]
    kinds = {
        kind: {"answered": len(found), "p50_ms": _percentile(found, 50), "p99_ms": _percentile(found, 99)}
        for kind, found in run.by_kind.items()
    }
    errors: Counter[str] = sum((period.errors for period in run.periods), Counter())
    rules = {"errors": _no_errors(errors), "memory": _memory(run), "p99": _p99([row["p99_ms"] for row in rows])}
    for kind, figures in kinds.items():
        print(f"{kind:24} {figures['answered']:8,} answered, p50 {figures['p50_ms']:.2f} ms, "
              f"p99 {figures['p99_ms']:.2f} ms")  # fmt: skip
    for name, rule in rules.items():
        print(f"{name}: {'holds' if rule['holds'] else 'DOES NOT HOLD'}: {rule['found']}")
    return {
        "rate": RATE,
        "seconds": run.seconds,
        "minute_seconds": run.minute,
        "mix": MIX,
        "minutes": rows,
        "by_kind": kinds,
        "rules": rules,
    }


def _no_errors(errors: Counter[str]) -> dict[str, Any]:
    found = "; ".join(f"{count} × {what}" for what, count in errors.most_common(10)) or "no error"
    return {"holds": not errors, "found": found}


def _memory(run: Run) -> dict[str, Any]:
    first, last = run.periods[0].memory, run.periods[-1].memory
    samples = max(1, round(len(first) / 6))
    begun, ended = statistics.median(first[-samples:]) / 1e6, statistics.median(last) / 1e6
    found = f"{begun:.1f} MB at the end of the first minute, {ended:.1f} MB in the last ({ended / begun:.3f} times; "
    return {"holds": ended <= begun * MEMORY_LIMIT, "found": f"{found}at most {MEMORY_LIMIT})"}


def _p99(p99s: list[float]) -> dict[str, Any]:
    after = p99s[1:] or p99s
    first, last = statistics.median(after[:3]), statistics.median(after[-3:])
    found = f"{first:.2f} ms in the three minutes after the first, {last:.2f} ms in the last three "
    return {"holds": last <= first * P99_LIMIT, "found": f"{found}({last / first:.2f} times; at most {P99_LIMIT})"}


def _percentile(seconds: Sequence[float], percent: float) -> float:
    """In milliseconds."""
    return round(float(np.percentile(seconds, percent)) * 1e3, 3) if seconds else float("nan")


if __name__ == "__main__":
    sys.exit(main())
