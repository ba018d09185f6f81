"""What metering takes of the plane's throughput: servers that are equal but for their spools, one beside the other.

One process each, the tiny model as JSON, so that the share of metering is as large as it gets. The servers take turns,
several rounds, because a machine's speed drifts; the figure is the median of the rounds' ratios. The load generator
runs on the same machine. Where others take the machine's processors now and then, the processor time is steadier.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import load, models, ours
from benchmarks.figures import Figure
from tests.live import LiveSite, free_port
from tests.publishing import TINY, make_key, publish

CONNECTIONS = (16, 64)
ROUNDS = 5
SECONDS = 6.0
# What a server has to ship still after its turn must not fall into that of the next.
REST = 4.0
WARM_UP = 0.3
AT_MOST_PERCENT = 5.0
SERVERS = {
    "without metering": ("benchmarks.unmetered_server", "process"),
    "metering, process": ("aiaas_site.server", "process"),
    "metering, disk": ("aiaas_site.server", "disk"),
}
BARE, BOUNDED, *_ = SERVERS


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a server's turn, and microseconds of processor time for each request, shipping included."""

    load: load.Load
    used_us: float


def measure(site: LiveSite) -> list[Figure]:
    site.manage("create_tenant", "metering")
    ours.lift_limits(site)
    with tempfile.TemporaryDirectory() as folder:
        files = models.made(Path(folder), "tiny.tflite")
        publish(site, tenant="metering", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    key = make_key(site, "metering")
    request = load.request("/v1/models/tiny:predict", key, ours.TINY_BODY, "application/json")
    ports = {mode: free_port() for mode in SERVERS}
    # All from the sources: what is compiled cannot be told to keep nothing.
    started = {
        mode: site.start_server(port=ports[mode], module=module, METERING_DURABILITY=durability, COMPILED="off")
        for mode, (module, durability) in SERVERS.items()
    }
    for port in ports.values():
        load.run(port, [request], connections=4, seconds=SECONDS)
    servers = {mode: Server(port, psutil.Process(started[mode].pid)) for mode, port in ports.items()}
    figures = [one for connections in CONNECTIONS for one in _figures(servers, request, connections)]
    for process in started.values():
        process.terminate()
        process.wait(30)
    return figures


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and what it does in a turn: load, and rest in which it ships what is left."""

    port: int
    process: psutil.Process

    def turn(self, request: bytes, connections: int) -> Turn:
        before = self._used()
        found = load.run(self.port, [request], connections=connections, seconds=SECONDS, warm_up=WARM_UP)
        time.sleep(REST)
        # The load's requests are those after its warm-up; the processor's time is for all.
        requests = found.requests * (1 + WARM_UP / SECONDS)
        return Turn(found, (self._used() - before) / requests * 1e6)

    def _used(self) -> float:
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(one.user + one.system for one in times)


def _figures(servers: dict[str, Server], request: bytes, connections: int) -> list[Figure]:
    rounds: dict[str, list[Turn]] = {mode: [] for mode in servers}
    for number in range(ROUNDS):
        turn = list(servers.items())
        for mode, server in turn[number % len(turn) :] + turn[: number % len(turn)]:
            one = server.turn(request, connections)
            assert not one.load.errors, f"{one.load.errors} errors with {mode}"
            rounds[mode].append(one)
    figures = []
    for mode, found in rounds.items():
        pairs = list(zip(found, rounds[BARE], strict=True))
        per_second = statistics.median(one.load.per_second for one in found)
        figures.append(Figure(f"{mode}, {connections} connections", per_second, "req/s"))
        figures.append(Figure("  p50", statistics.median(one.load.p50_ms for one in found), "ms"))
        figures.append(Figure("  processor time a request", statistics.median(one.used_us for one in found), "us"))
        if mode != BARE:
            lost = [100 * (1 - it.load.per_second / other.load.per_second) for it, other in pairs]
            more = [100 * (it.used_us / other.used_us - 1) for it, other in pairs]
            bound = AT_MOST_PERCENT if mode == BOUNDED else None
            figures.append(Figure("  fewer requests than without it", statistics.median(lost), "%", at_most=bound))
            figures.append(Figure("  more processor time than without it", statistics.median(more), "%"))
    return figures
