"""What metering takes of the plane's throughput: servers that are equal but for their spools, one beside the other.

One process each, the tiny model as JSON, so that the share of metering is as large as it gets. The servers take turns,
several rounds, because a machine's speed drifts; the figure is the median of the rounds' ratios. The load generator
runs on the same machine.
"""

import statistics
import tempfile
import time
from pathlib import Path

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


def measure(site: LiveSite) -> list[Figure]:
    site.manage("create_tenant", "metering")
    ours.lift_limits(site)
    with tempfile.TemporaryDirectory() as folder:
        files = models.made(Path(folder), "tiny.tflite")
        publish(site, tenant="metering", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    key = make_key(site, "metering")
    request = load.request("/v1/models/tiny:predict", key, ours.TINY_BODY, "application/json")
    ports = {mode: free_port() for mode in SERVERS}
    started = [
        site.start_server(port=ports[mode], module=module, METERING_DURABILITY=durability)
        for mode, (module, durability) in SERVERS.items()
    ]
    for port in ports.values():
        load.run(port, [request], connections=4, seconds=SECONDS)
    figures = [one for connections in CONNECTIONS for one in _figures(ports, request, connections)]
    for process in started:
        process.terminate()
        process.wait(30)
    return figures


def _figures(ports: dict[str, int], request: bytes, connections: int) -> list[Figure]:
    rounds: dict[str, list[load.Load]] = {mode: [] for mode in ports}
    for number in range(ROUNDS):
        turn = list(ports.items())
        for mode, port in turn[number % len(turn) :] + turn[: number % len(turn)]:
            one = load.run(port, [request], connections=connections, seconds=SECONDS, warm_up=WARM_UP)
            time.sleep(REST)
            assert not one.errors, f"{one.errors} errors with {mode}"
            rounds[mode].append(one)
    figures = []
    for mode in rounds:
        found, bare = rounds[mode], rounds[BARE]
        per_second = statistics.median(one.per_second for one in found)
        figures.append(Figure(f"{mode}, {connections} connections", per_second, "req/s"))
        figures.append(Figure("  p50", statistics.median(one.p50_ms for one in found), "ms"))
        if mode != BARE:
            lost = [100 * (1 - it.per_second / other.per_second) for it, other in zip(found, bare, strict=True)]
            bound = AT_MOST_PERCENT if mode == BOUNDED else None
            figures.append(Figure("  less than without it", statistics.median(lost), "%", at_most=bound))
    return figures
