"""Work for a batcher under test, an engine that doubles it, a queue that holds it and what reads its files."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inference.batching import More, Prepare, read
from inference.engines.base import Tensor, Tensors, Unwritten
from inference.queueing import HostRows, Queue
from inference.work import Reply, Work
from modelhub.signatures import TensorSpec


class Doubling:
    """A fake engine that doubles its rows and remembers how many came at once."""

    name = "doubling"
    outside_bytes = 0
    per_thread = True
    gone = False

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        self.batches.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    def close(self) -> None: ...


def work(*values: float, deadline: float | None = None, bucket: int = 0, priority: int = 0) -> Work:
    def render(outputs: Mapping[str, Tensor]) -> Reply:
        return Reply(repr(outputs["y"].ravel().tolist()).encode())

    inputs = {"x": np.array(values, dtype=np.float32).reshape(-1, 1)}
    return Work(
        rows=len(values), deadline=deadline or time.monotonic() + 60, render=render, inputs=inputs, bucket=bucket,
        priority=priority,
    )  # fmt: skip


def queue(
    best: int = 4, limit: int = 100, host: HostRows | None = None, tenant_id: str = "acme", usual: int | None = None
) -> Queue:
    return Queue(
        best_rows=best, limit=limit, host=host or HostRows(1000), tenant_id=tenant_id, usual_bucket=usual
    )  # fmt: skip


def reading(one: Callable[[Any], Any]) -> Prepare:
    """Reads files by `one`, and those that join."""

    def prepare(works: list[Work], more: More | None) -> Unwritten:
        return Unwritten(TensorSpec("x", "float32", (-1, 1)), read(works, one, more), _write)

    return prepare


def _write(found: Any, into: Tensor) -> None:
    into[:] = found
