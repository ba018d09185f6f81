"""Work for a batcher under test, an engine that doubles it and a queue that holds it."""

import time
from collections.abc import Mapping

import numpy as np

from inference.engines.base import Tensor, Tensors
from inference.queueing import HostRows, Queue
from inference.work import Reply, Work


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
