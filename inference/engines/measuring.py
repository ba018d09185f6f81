"""What an engine does on this host: seconds by batch size and by threads, and what follows for serving."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.engines.base import Engine, Tensors, blank
from modelhub.signatures import Signature

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
MEASURE_SECONDS = 0.04
# What is so quick that it runs more often in that time is known after fewer runs.
MEASURE_RUNS = 100
# A larger batch must be worth at least this much more throughput, because the requests in it wait for one another.
WORTH = 1.03
# What a batch costs beside its run: handing it to a thread, and its answers back.
HOP_SECONDS = 150e-6
# A batch that takes longer holds up other tenants for longer than their turns are.
LONGEST_BATCH_SECONDS = 5e-3
# A batch cheaper than this runs on the event loop: handing it to a thread and back would cost more.
INLINE_SECONDS = 100e-6
# Several threads for a lone request must save at least this share of its time.
ALONE_WORTH = 0.85


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds by batch size on one thread, and of one row by threads.

    `best_rows` is the batch size to serve with; `alone_threads` is how many threads answer a lone request soonest.
    """

    seconds: dict[int, float]
    best_rows: int
    alone: dict[int, float]
    alone_threads: int = 1

    def __str__(self) -> str:
        times = ", ".join(f"{rows}: {seconds * 1e3:.3f} ms" for rows, seconds in self.seconds.items())
        threads = ", ".join(f"{count}: {seconds * 1e3:.3f} ms" for count, seconds in self.alone.items())
        return f"best batch {self.best_rows} on one thread ({times}); one row by threads ({threads})"

    @property
    def inline(self) -> bool:
        """Whether its batches are cheaper than a thread hop."""
        return self.seconds[self.best_rows] < INLINE_SECONDS

    @property
    def alone_seconds(self) -> float:
        """How long a lone row takes."""
        return self.alone[self.alone_threads]

    def as_json(self) -> dict[str, Any]:
        return {
            "milliseconds_by_batch": {str(rows): round(seconds * 1e3, 4) for rows, seconds in self.seconds.items()},
            "milliseconds_of_one_row_by_threads": {str(n): round(s * 1e3, 4) for n, s in self.alone.items()},
            "best_batch": self.best_rows,
            "threads_of_a_lone_request": self.alone_threads,
        }


def measure(engine: Engine, signature: Signature, *, batched: bool) -> Measured:
    """Times the engine at each batch size, on one thread, and chooses the smallest that is worth it."""
    seconds: dict[int, float] = {}
    best = 1
    for rows in BATCH_SIZES if batched else BATCH_SIZES[:1]:
        inputs = blanks(signature, rows if batched else None)
        seconds[rows] = fastest(lambda inputs=inputs: engine.run(inputs))  # type: ignore[misc]
        if seconds[rows] > LONGEST_BATCH_SECONDS:
            break
        if rows / (seconds[rows] + HOP_SECONDS) > WORTH * best / (seconds[best] + HOP_SECONDS):
            best = rows
    return Measured(seconds=seconds, best_rows=best, alone={1: seconds[1]})


def with_alone(measured: Measured, times: Mapping[int, float]) -> Measured:
    """The same with the times of one row by threads; several threads are taken if they are worth it."""
    alone = measured.alone | dict(times)
    threads = min(alone, key=lambda count: alone[count])
    if alone[threads] > ALONE_WORTH * alone[1]:
        threads = 1
    return Measured(measured.seconds, measured.best_rows, alone, threads)


def blanks(signature: Signature, rows: int | None) -> Tensors:
    """Inputs of zeros."""
    return {spec.name: blank(spec, rows) for spec in signature.inputs}


def fastest(step: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, the first left out."""
    step()
    found = float("inf")
    until = time.perf_counter() + MEASURE_SECONDS
    for _ in range(MEASURE_RUNS):
        started = time.perf_counter()
        step()
        ended = time.perf_counter()
        found = min(found, ended - started)
        if ended > until:
            break
    return found
