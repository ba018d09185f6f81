"""A lone request: how long one caller waits who asks now and then, and one who asks again at once.

Most callers ask now and then, and then processors sleep and caches are cold: a model answers slower than in a loop
that runs it without end. Writes `benchmarks/results/lone.json`.
"""

import json
import socket
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import fairness, load, models, ours, payloads
from tests.live import LiveSite, live_site
from tests.publishing import TINY, make_key, publish

# Requests a second, as far as the answers allow, and how many of them in each round; by turns, as a machine's speed
# drifts.
PACES = {10.0: 50, 50.0: 150, float("inf"): 300}
ROUNDS = 5
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of request at one pace: milliseconds."""

    model: str
    per_second: float | None
    p50_ms: float
    p90_ms: float
    p99_ms: float


def main() -> None:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        rows = _measured(site.port, _opened(site, Path(var)))
    print(f"\n{'model':6} {'requests/s':>10} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8}")
    for row in rows:
        print(f"{row.model:6} {row.per_second or 'at once':>10} {row.p50_ms:8.2f} {row.p90_ms:8.2f} {row.p99_ms:8.2f}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "lone.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(f"written to {(RESULTS / 'lone.json').relative_to(Path.cwd())}")


def _opened(site: LiveSite, folder: Path) -> dict[str, bytes]:
    """A server with three models of one tenant, each loaded; a request to each."""
    files = models.made(folder / "models", "tiny.tflite", "cnn.int8.tflite")
    heavy = fairness.heavy(folder / "heavy.onnx")
    site.manage("create_tenant", "lone")
    ours.lift_limits(site)
    ours.publish_both(site, "lone", files)
    about = TINY | {"engine": "onnx", "outputs": ("y", (-1, 4))}
    publish(site, tenant="lone", model="heavy", path=heavy, deployment="heavy", **about)
    key = make_key(site, "lone")
    site.start_server()
    ours.wait_until_answering(site, key)
    row = b'{"instances":[[0,1,2,3]]}'
    return {
        "tiny": load.request("/v1/models/tiny:predict", key, row, "application/json"),
        "cnn": load.request("/api/v1/deployments/cats/predict", key, payloads.picture(), "image/jpeg"),
        "heavy": load.request("/v1/models/heavy:predict", key, row, "application/json"),
    }


def _measured(port: int, requests: dict[str, bytes]) -> list[Row]:
    found: dict[tuple[str, float], list[float]] = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for name in requests:
            _asked(connection, requests[name], float("inf"), 20)  # loads it
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS} …", flush=True)
            for name, request in requests.items():
                for pace, count in PACES.items():
                    found.setdefault((name, pace), []).extend(_asked(connection, request, pace, count))
    return [_row(name, pace, milliseconds) for (name, pace), milliseconds in found.items()]


def _asked(connection: socket.socket, request: bytes, pace: float, count: int) -> list[float]:
    """Milliseconds of so many answers, one after another."""
    found = []
    for _ in range(count):
        time.sleep(1 / pace)
        asked = time.perf_counter()
        connection.sendall(request)
        answer = connection.recv(65536)
        found.append((time.perf_counter() - asked) * 1e3)
        assert answer.startswith(b"HTTP/1.1 200"), answer
    return found


def _row(name: str, pace: float, milliseconds: list[float]) -> Row:
    cuts = statistics.quantiles(milliseconds, n=100)
    p50, p90, p99 = (round(cuts[percent - 1], 3) for percent in (50, 90, 99))
    return Row(name, None if pace == float("inf") else pace, p50, p90, p99)


if __name__ == "__main__":
    main()
