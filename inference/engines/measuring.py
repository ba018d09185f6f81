"""What the engines do with a version on this host: seconds by batch size and threads, and which of them serves.

Every candidate of a version (an engine and a file that passed the accuracy gate) is timed at each batch size and each
number of threads. The one with the most rows a second at its best batch serves; among those that are nearly as good,
the one that answers a lone row soonest.
"""

import contextlib
import importlib.metadata
import itertools
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines.base import Engine, Tensors, blank
from modelhub.signatures import Signature

# Engines compute some rows at once, 5 or 6 or 8 of them by the processor, and one more costs as much as all of those.
# So sizes in between are timed on one thread, too: they tell how many of those that wait are run together.
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
SIZES_OF_ONE_THREAD = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 20, 24, 32)
MEASURE_SECONDS = 0.03
# What is so quick that it runs more often in that time is known after fewer runs; what is slow runs a few times, too.
MEASURE_RUNS = 100
FEWEST_RUNS = 3
# A host is now quick, now slow, for seconds: sizes are compared within a short pass over all, and over many passes.
PASSES = 9
PASS_SECONDS = 0.003
# After this long no further pass begins.
LONG_PASS_SECONDS = 1.0
# Beside other work a host seems slower than it is: a loop that ought to take this long takes longer.
SPIN_SECONDS = 10e-3
QUIET = 1.15
# A larger batch must be worth at least this much more throughput, because the requests in it wait for one another.
WORTH = 1.03
# What has this share of the most rows a second is as good: of candidates the one then serves that answers a lone row
# soonest, and of those that wait no more are run together.
AS_GOOD = 0.95
# While other tenants ask, too, a shorter batch will do if it has at least this share of the best one's throughput.
SHORT_WORTH = 0.8
# What a batch costs beside its run, a thread that is woken for it with caches that are cold, is measured with one row;
# it is so much at least, for its answers wake others, and at most.
LEAST_BESIDES, MOST_BESIDES = 150e-6, 1e-3
BESIDES_SECONDS = 0.05
COLD_BYTES = 4 * 1024**2
# A batch that takes longer would hold up who comes after a rest for too long; who asks all the time has shorter ones
# run beside him. A model that is slow by itself may batch as long as it takes for a few lone rows, else it would never
# serve more than one of them at a time.
LONGEST_BATCH_SECONDS = 20e-3
LONGEST_IN_LONE_ROWS = 4
# A batch cheaper than this runs on the event loop: handing it to a thread and back would cost more.
INLINE_SECONDS = 100e-6
# Several threads for a lone request must save at least this share of its time.
ALONE_WORTH = 0.85
# What is measured, and up to which batch, changes with this number.
FORMAT = 5
RUNTIMES = ("ai-edge-litert", "onnxruntime", "tensorflow")

logger = logging.getLogger(__name__)
Seconds = Mapping[int, float]
Make = Callable[["Candidate", int], Engine]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine, and the file of the version that it would serve."""

    engine: str
    file: str

    def __str__(self) -> str:
        return f"{self.engine} {self.file}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What engines are measured with: blank tensors of the signature, or one usual row, as often as there are rows.

    `typical` has, by input, the sizes of the dynamic dimensions that a blank tensor gets.
    """

    signature: Signature
    batched: bool = True
    typical: Mapping[str, Sequence[int]] = field(default_factory=dict)
    row: Tensors | None = None

    def inputs(self, rows: int) -> Tensors:
        """The engine's tensors for so many rows."""
        if self.row is not None:
            return {name: np.repeat(tensor, rows, axis=0) for name, tensor in self.row.items()}
        count = rows if self.batched else None
        return {spec.name: blank(spec, count, self.typical.get(spec.name, ())) for spec in self.signature.inputs}


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a candidate by threads and by rows in the batch; none and an error if it does not run here.

    `besides` is what a batch takes beside its run when a thread is woken for it.
    """

    candidate: Candidate
    seconds: Mapping[int, Seconds]
    error: str = ""
    besides: float = LEAST_BESIDES


@dataclass(frozen=True, slots=True)
class Measured:
    """What follows from a candidate's times: seconds by batch size on one thread, and of one row by threads.

    `best_rows` is the batch size to serve with; `alone_threads` is how many threads answer a lone request soonest.
    """

    candidate: Candidate
    seconds: Seconds
    best_rows: int
    alone: Seconds
    alone_threads: int = 1
    besides: float = LEAST_BESIDES

    def __str__(self) -> str:
        times = ", ".join(f"{rows}: {seconds * 1e3:.3f} ms" for rows, seconds in self.seconds.items())
        threads = ", ".join(f"{count}: {seconds * 1e3:.3f} ms" for count, seconds in self.alone.items())
        return (
            f"{self.candidate}, best batch {self.best_rows} on one thread ({times}), "
            f"{self.besides * 1e3:.3f} ms besides; one row by threads ({threads})"
        )

    @property
    def inline(self) -> bool:
        """Whether its batches are cheaper than a thread hop."""
        return self.seconds[self.best_rows] < INLINE_SECONDS

    @property
    def alone_seconds(self) -> float:
        """How long a lone row takes."""
        return self.alone[self.alone_threads]

    @property
    def rows_per_second(self) -> float:
        """At the best batch on one thread, with what a batch costs besides."""
        return self.best_rows / (self.seconds[self.best_rows] + self.besides)

    @property
    def batches(self) -> tuple[int, ...]:
        """How many rows are run together where one waits, where two do, and so on up to the best batch.

        The fewest that are as good as any; the others come with the next batch, while which these are answered.
        """
        per_second = {rows: rows / (took + self.besides) for rows, took in sorted(self.seconds.items())}
        found = []
        for waiting in range(1, self.best_rows + 1):
            filled = {rows: rate for rows, rate in per_second.items() if rows <= waiting}
            enough = AS_GOOD * max(filled.values())
            found.append(next(rows for rows, rate in filled.items() if rate >= enough))
        return tuple(found)

    @property
    def short_rows(self) -> int:
        """The batch size while other tenants ask, too: the smallest that is nearly as good holds them up least."""
        least = SHORT_WORTH * self.rows_per_second
        return min(rows for rows, seconds in self.seconds.items() if rows / (seconds + self.besides) >= least)

    def with_more(self, seconds: float) -> "Measured":
        """The same where each row costs so much more, whatever the engine."""
        by_rows = {rows: took + rows * seconds for rows, took in self.seconds.items()}
        alone = {threads: took + seconds for threads, took in self.alone.items()}
        return replace(self, seconds=by_rows, alone=alone, best_rows=_best_rows(by_rows, self.besides))


class NothingRuns(Exception):
    """None of a version's candidates runs on this host."""


def measure(candidates: Iterable[Candidate], make: Make, asked: Asked) -> list[Times]:
    """Times every candidate at each batch size and each number of threads; what does not run here is noted."""
    return [_times(candidate, make, asked) for candidate in candidates]


def _times(candidate: Candidate, make: Make, asked: Asked) -> Times:
    try:
        seconds = {}
        for threads in thread_counts():
            with contextlib.closing(make(candidate, threads)) as engine:
                seconds[threads] = _by_rows(engine, asked, SIZES_OF_ONE_THREAD if threads == 1 else BATCH_SIZES)
                if threads == 1:
                    besides = _besides(engine, asked)
    except Exception as error:  # whatever a runtime raises about a file
        logger.warning("%s cannot be run on this host", candidate, exc_info=True)
        return Times(candidate, {}, f"{type(error).__name__}: {error}"[:300])
    return Times(candidate, seconds, besides=besides)


def _by_rows(engine: Engine, asked: Asked, sizes: Sequence[int]) -> Seconds:
    """Seconds by rows, up to the first batch that is too long to be served.

    What is slow is timed in one pass: a slow moment matters less to it, and the passes would take minutes.
    """
    passes: list[Seconds] = []
    began = time.perf_counter()
    while not passes or (len(passes) < PASSES and time.perf_counter() - began < LONG_PASS_SECONDS):
        passes.append(_one_pass(engine, asked, sizes))
    return _together(passes, sizes)


def _one_pass(engine: Engine, asked: Asked, sizes: Sequence[int]) -> Seconds:
    found: dict[int, float] = {}
    for rows in sizes if asked.batched else sizes[:1]:
        inputs = asked.inputs(rows)
        found[rows] = fastest(partial(engine.run, inputs), seconds=PASS_SECONDS, fewest=1)
        if found[rows] > longest(found):
            break
    return found


def _together(passes: Sequence[Seconds], sizes: Sequence[int]) -> Seconds:
    """Of one row the quickest; of more rows as many times that as it usually was in the same pass, size by size."""
    found = {1: min(times[1] for times in passes)}
    for fewer, rows in itertools.pairwise(sizes):
        in_times = [times[rows] / times[fewer] for times in passes if rows in times]
        if not in_times:
            break
        found[rows] = found[fewer] * statistics.median(in_times)
    return found


def _besides(engine: Engine, asked: Asked) -> float:
    """How much longer one row takes in a thread that is woken for it, whose caches are cold: the median, in seconds."""
    run = partial(engine.run, asked.inputs(1))
    cold = np.zeros(COLD_BYTES, np.uint8)
    found: list[float] = []
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(run).result()
        until = time.perf_counter() + BESIDES_SECONDS
        while not found or time.perf_counter() < until:
            warm = _took(run)
            cold += 1
            found.append(_took(lambda: thread.submit(run).result()) - warm)
    return min(max(statistics.median(found), LEAST_BESIDES), MOST_BESIDES)


def _took(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def best_rows(engine: Engine, asked: Asked) -> int:
    """The best batch of an engine that is chosen already, in rows."""
    return _best_rows(_by_rows(engine, asked, BATCH_SIZES), _besides(engine, asked))


def chosen(table: Iterable[Times]) -> Measured:
    """The candidate that serves. Raises NothingRuns."""
    able = [judged(times) for times in table if times.seconds]
    if not able:
        raise NothingRuns("; ".join(f"{times.candidate}: {times.error}" for times in table) or "no candidates")
    best = max(one.rows_per_second for one in able)
    return min((one for one in able if one.rows_per_second >= AS_GOOD * best), key=lambda one: one.alone_seconds)


def judged(times: Times) -> Measured:
    """The best batch on one thread (the smallest that is worth it), and the threads for a lone row."""
    seconds = times.seconds[1]
    alone = {threads: by_rows[1] for threads, by_rows in times.seconds.items()}
    threads = min(alone, key=lambda count: alone[count])
    if alone[threads] > ALONE_WORTH * alone[1]:
        threads = 1
    best = _best_rows(seconds, times.besides)
    return Measured(times.candidate, seconds, best, alone, threads, times.besides)


def _best_rows(seconds: Seconds, besides: float) -> int:
    """The smallest of the batch sizes that is worth it, and no longer than other tenants may wait for it."""
    best = 1
    for rows, took in sorted((rows, seconds[rows]) for rows in BATCH_SIZES if rows in seconds):
        if took > longest(seconds):
            break
        if rows / (took + besides) > WORTH * best / (seconds[best] + besides):
            best = rows
    return best


def longest(seconds: Seconds) -> float:
    """How many seconds a batch may take, given how long it takes by rows."""
    return max(LONGEST_BATCH_SECONDS, LONGEST_IN_LONE_ROWS * seconds[1])


def thread_counts() -> list[int]:
    """1, 2, 4 and so on, up to the processors of this host, and their number itself."""
    processors = os.cpu_count() or 1
    counts = {processors, *(1 << power for power in range(processors.bit_length()) if 1 << power <= processors)}
    return sorted(counts)


@cache
def host() -> str:
    """What the times depend on besides the version: the processors and the runtimes; the same name, the same times."""
    runtimes = [f"{name} {importlib.metadata.version(name)}" for name in RUNTIMES]
    return f"{_processor()} × {os.cpu_count()}, {', '.join(runtimes)}, format {FORMAT}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())[:100]


def fastest(step: Callable[[], object], *, seconds: float = MEASURE_SECONDS, fewest: int = FEWEST_RUNS) -> float:
    """Seconds of the fastest of several runs, the first left out."""
    step()
    found = float("inf")
    until = time.perf_counter() + seconds
    for number in range(1, MEASURE_RUNS + 1):
        found = min(found, _took(step))
        if time.perf_counter() > until and number >= fewest:
            break
    return found


def disturbance() -> float:
    """How many times as long a loop takes as it would alone: 1 on a quiet host, 2 if it gets half of a processor."""
    begun, used = time.perf_counter(), time.thread_time()
    while (spent := time.thread_time() - used) < SPIN_SECONDS:
        pass
    return (time.perf_counter() - begun) / spent


def as_json(table: Iterable[Times]) -> list[dict[str, Any]]:
    """The table as it is kept and shown, in milliseconds."""
    return [
        {
            "engine": times.candidate.engine,
            "file": times.candidate.file,
            "error": times.error,
            "milliseconds_by_threads_and_batch": {
                str(threads): {str(rows): round(seconds * 1e3, 4) for rows, seconds in by_rows.items()}
                for threads, by_rows in times.seconds.items()
            },
            "milliseconds_besides": round(times.besides * 1e3, 4),
        }
        for times in table
    ]


def from_json(table: Iterable[Mapping[str, Any]]) -> list[Times]:
    """The table that was kept."""
    return [
        Times(
            Candidate(one["engine"], one["file"]),
            {
                int(threads): {int(rows): milliseconds / 1e3 for rows, milliseconds in by_rows.items()}
                for threads, by_rows in one["milliseconds_by_threads_and_batch"].items()
            },
            one["error"],
            one["milliseconds_besides"] / 1e3,
        )
        for one in table
    ]
