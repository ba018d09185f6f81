"""What Prometheus reads: the sum over all server processes of this host, which each write a snapshot every second.

No label is a tenant's or a deployment's, so that the number of series stays what it is. A process that ends takes its
counts along, which Prometheus takes for a restart of the counter.
"""

import json
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from inference.plane.statistics import BUCKETS, upper_bound

if TYPE_CHECKING:
    from inference.plane.app import Plane

CONTENT_TYPE = CONTENT_TYPE_LATEST
# A snapshot older than this is of a process that has died.
DEAD_AFTER_SECONDS = 10.0
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
COUNTERS = {
    "rows": "Rows answered by a model.",
    "version_hits": "Requests whose version was in memory.",
    "version_waits": "Requests that waited for their version to be loaded.",
    "version_loads": "Versions loaded.",
    "version_load_failures": "Versions that could not be loaded.",
    "version_evictions": "Versions that left memory for others.",
    "cache_hits": "Requests that kept outputs answered.",
    "cache_misses": "Requests of deployments with a response cache that an engine answered.",
    "cache_evictions": "Outputs that were given up because the response cache was full.",
    "abandoned": "Requests whose caller left before the answer.",
}
GAUGES = {
    "queued_rows": "Rows that wait for an engine.",
    "versions_in_memory": "Versions in memory.",
    "versions_bytes": "Bytes that the versions in memory take.",
    "versions_budget_bytes": "Bytes that versions may take.",
    "cache_bytes": "Bytes that the response cache holds.",
    "cache_budget_bytes": "Bytes that the response cache may hold.",
    "processes": "Server processes that answer.",
    "directory_age_seconds": "Seconds since the database was heard, in the process that heard it longest ago.",
}
HISTOGRAMS = {
    "request_seconds": ("From the whole request to its answer, refusals too.", SECONDS),
    "queue_seconds": ("From the queue's end to its head.", SECONDS),
    "compute_seconds": ("Of a batch: preparing its rows, running and writing the answers.", SECONDS),
    "batch_rows": ("Rows in a batch.", ROWS),
    "version_load_seconds": ("Loading a version: waiting for those before it, checking, measuring.", LOAD_SECONDS),
}

NAMES = frozenset({"statuses", "refusals", *COUNTERS, *GAUGES, *HISTOGRAMS})


def folder() -> Path:
    """Where the processes of this host leave their snapshots."""
    return Path(settings.SCRATCH_DIR) / "metrics"


class Snapshot:
    """This process's counts in a file."""

    def __init__(self, folder: Path, *, producer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{producer}.json"
        self._writing = threading.Lock()

    def write(self, reading: dict[str, Any]) -> None:
        """Replaces what was written before, whole; does nothing while another thread is at it still."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(reading))
            draft.replace(self._path)
        finally:
            self._writing.release()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def reading(plane: "Plane") -> dict[str, Any]:
    """What this process has counted."""
    totals, versions = plane.statistics.totals, plane.versions
    counters, cache = versions.counters, plane.settling.cache
    return {
        "statuses": {str(family): count for family, count in totals.statuses.items()},
        "refusals": dict(totals.refusals),
        "abandoned": totals.abandoned,
        "rows": totals.rows,
        "version_hits": counters.hits,
        "version_waits": counters.waits,
        "version_loads": counters.loads,
        "version_load_failures": counters.failures,
        "version_evictions": counters.evictions,
        "cache_hits": cache.hits,
        "cache_misses": cache.misses,
        "cache_evictions": cache.evictions,
        "cache_bytes": cache.held_bytes,
        "cache_budget_bytes": cache.limit_bytes,
        "queued_rows": plane.host_rows.queued,
        "versions_in_memory": len(versions),
        "versions_bytes": versions.held_bytes,
        "versions_budget_bytes": versions.budget_bytes,
        "processes": 1,
        "directory_age_seconds": plane.directory.age(time.monotonic()),
        "request_seconds": in_steps(totals.total_us, SECONDS, 1e-6),
        "queue_seconds": in_steps(totals.queue_us, SECONDS, 1e-6),
        "compute_seconds": in_steps(totals.compute_us, SECONDS, 1e-6),
        "batch_rows": in_steps(totals.batch_rows, ROWS, 1),
        "version_load_seconds": in_steps(counters.load_us, LOAD_SECONDS, 1e-6),
    }


def exposition(folder: Path) -> bytes:
    """Prometheus's text, over all processes that live."""
    registry = CollectorRegistry()
    registry.register(_Processes(folder))
    return generate_latest(registry)


class _Processes(Collector):
    def __init__(self, folder: Path) -> None:
        self._readings = list(_living(folder))

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("aiaas_requests", "Answers by their status.", labels=["status"])
        for family in range(2, 6):
            requests.add_metric([f"{family}xx"], sum(one["statuses"].get(str(family), 0) for one in self._readings))
        yield requests
        refusals = CounterMetricFamily("aiaas_refusals", "Refusals by their kind.", labels=["reason"])
        for reason in sorted({reason for one in self._readings for reason in one["refusals"]}):
            refusals.add_metric([reason], sum(one["refusals"].get(reason, 0) for one in self._readings))
        yield refusals
        for name, words in COUNTERS.items():
            yield CounterMetricFamily(f"aiaas_{name}", words, value=sum(one[name] for one in self._readings))
        for name, words in GAUGES.items():
            join = max if name == "directory_age_seconds" else sum
            yield GaugeMetricFamily(f"aiaas_{name}", words, value=join([one[name] for one in self._readings] or [0]))
        for name, (words, steps) in HISTOGRAMS.items():
            yield self._histogram(name, words, steps)

    def _histogram(self, name: str, words: str, steps: tuple[float, ...]) -> HistogramMetricFamily:
        counts = [0] * (len(steps) + 1)
        total = 0.0
        for one in self._readings:
            counts = [a + b for a, b in zip(counts, one[name]["counts"], strict=True)]
            total += one[name]["sum"]
        running = [sum(counts[: at + 1]) for at in range(len(counts))]
        labels = [*(f"{step:g}" for step in steps), "+Inf"]
        buckets = [(label, float(count)) for label, count in zip(labels, running, strict=True)]
        return HistogramMetricFamily(f"aiaas_{name}", words, buckets=buckets, sum_value=total)


def _living(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        try:
            if time.time() - path.stat().st_mtime > DEAD_AFTER_SECONDS:
                os.unlink(path)
                continue
            found: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:  # its process has ended meanwhile
            continue
        if found.keys() >= NAMES:  # else it is of a process that runs another release
            yield found


def in_steps(histogram: list[int], steps: tuple[float, ...], unit: float) -> dict[str, Any]:
    """A fine histogram in coarse steps; the sum is that of the buckets' middles."""
    counts = [0] * (len(steps) + 1)
    total = 0.0
    for count, (step, middle) in zip(histogram, _places(steps, unit), strict=True):
        if count:
            counts[step] += count
            total += middle * count
    return {"counts": counts, "sum": total}


@cache
def _places(steps: tuple[float, ...], unit: float) -> tuple[tuple[int, float], ...]:
    """The coarse step and the middle of each fine bucket: known once, for the event loop asks every second."""
    places = []
    for index in range(BUCKETS):
        below, above = (upper_bound(index - 1) if index else 0) * unit, upper_bound(index) * unit
        middle = (below + above - unit) / 2
        places.append((bisect_left(steps, middle), middle))
    return tuple(places)
