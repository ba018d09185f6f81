"""Predictions a second through HTTP, beside the bare loop of the same engine and the bare server, in one run.

Authentication, quota and metering are on. The load generator runs on the same machine and takes its share of it.
Writes `benchmarks/results/plane.json`.
"""

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bare, chart, load, models, ours, payloads
from benchmarks.bare import Bare
from benchmarks.load import Load
from tests.live import live_site

CONNECTIONS = (1, 16, 64)
ROUNDS = 9
SECONDS = 1.0
WARM_UP = 0.3
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Round:
    """What the plane did, and what the bare engine loop and the bare server did beside it, per second.

    `lone_ms` is what decode and engine alone take for one picture, where that is measured.
    """

    found: Load
    limit: float
    server: float
    lone_ms: float = 0.0


def main() -> None:
    with tempfile.TemporaryDirectory() as var:
        files = models.made(Path(var) / "models", "tiny.tflite", "cnn.int8.tflite")
        picture = payloads.picture()
        loops = bare.loops(files, picture)
        cnn = files["cnn.int8.tflite"]
        lone = {"cnn-jpeg": bare.lone(cnn, picture), "cnn-tensor": bare.lone(cnn, None)}
        batches = _by_batch_size(cnn, picture)
        with live_site(Path(var)) as site, bare.server() as bare_port:
            rows = _measured(loops, lone, bare_port, site.port, ours.opened(site, files, picture))
    _print(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plane.json").write_text(json.dumps(rows, indent=1))
    (RESULTS / "plane.svg").write_text(chart.drawn(rows, batches))
    for name in ("plane.json", "plane.svg"):
        print(f"written to {(RESULTS / name).relative_to(Path.cwd())}")


def _by_batch_size(path: Path, picture: bytes) -> dict[int, float]:
    """Pictures a second of the bare loop by batch size: decode and run, on all cores."""
    return {rows: bare.cnn(path, picture, rows=rows)() for rows in (1, 2, 4, 8, 16, 32)}


def _measured(
    loops: dict[str, Bare], lone: dict[str, Bare], bare_port: int, port: int, requests: dict[str, bytes]
) -> list[dict[str, Any]]:
    """Everything in turn, several rounds, because a machine's speed drifts; the median of each figure and ratio.

    What the engine does in a bare loop is the mean of right before and right after what the plane does.
    """
    rounds: dict[tuple[str, int], list[Round]] = {}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS} …", flush=True)
        for work, request in requests.items():
            for connections in CONNECTIONS:
                server = load.run(bare_port, [request], connections=connections, seconds=SECONDS, warm_up=WARM_UP)
                beside = [loops[work], *([lone[work]] if connections == 1 and work in lone else [])]
                before = [bare_loop() for bare_loop in beside]
                found = load.run(port, [request], connections=connections, seconds=SECONDS, warm_up=WARM_UP)
                after = [bare_loop() for bare_loop in reversed(beside)]
                limit, *lone_ms = map(statistics.fmean, zip(before, reversed(after), strict=True))
                rounds.setdefault((work, connections), []).append(Round(found, limit, server.per_second, *lone_ms))
    return [_row(work, connections, found) for (work, connections), found in rounds.items()]


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'work':10} {'conn.':>5} {'per second':>11} {'p50 ms':>8} {'p99 ms':>8} {'errors':>7} "
          f"{'bare engine/s':>14} {'ratio':>6} {'bare server/s':>14} {'ratio':>6}")  # fmt: skip
    for row in rows:
        print(f"{row['work']:10} {row['connections']:5} {row['per_second']:11,.0f} {row['p50_ms']:8.2f} "
              f"{row['p99_ms']:8.2f} {row['errors']:7} {row['limit_per_second']:14,.0f} {row['of_limit']:6.1%} "
              f"{row['bare_server_per_second']:14,.0f} {row['of_bare_server']:6.1%}")  # fmt: skip
    for row in rows:
        if "lone_ms" in row:
            print(f"{row['work']} on one connection: p50 {row['p50_ms']:.2f} ms, "
                  f"{row['above_lone_ms']:.2f} ms above decode + engine alone ({row['lone_ms']:.2f} ms)")  # fmt: skip


def _row(work: str, connections: int, rounds: list[Round]) -> dict[str, Any]:
    def median(figure: Callable[[Round], float], digits: int) -> float:
        return round(statistics.median(figure(one) for one in rounds), digits)

    alone = {}
    if rounds[0].lone_ms:
        alone = {
            "lone_ms": median(lambda r: r.lone_ms, 3),
            "above_lone_ms": median(lambda r: r.found.p50_ms - r.lone_ms, 3),
        }
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
        **alone,
    }


if __name__ == "__main__":
    main()
