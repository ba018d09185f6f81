"""BentoML: a service of worker processes with adaptive batching; pictures and tensors in base64, its cheapest way."""

from base64 import b64decode
from typing import Any

import bentoml
import numpy as np

from benchmarks.peers.programs import asked
from benchmarks.peers.programs.engine import Engine

ASKED = asked.read()
# Its scheduler sheds requests that it thinks will be later than this; how long it waits it finds out by itself.
LATENCY_MS = 10_000


api: Any = bentoml.api(batchable=ASKED.batch > 1, max_batch_size=max(2, ASKED.batch), max_latency_ms=LATENCY_MS)


@bentoml.service(
    workers=ASKED.workers,
    threads=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": 60},
)
class Models:
    """The tiny model and the seed CNN; only the one that is asked for is loaded."""

    def __init__(self) -> None:
        self.engine = Engine(ASKED.file)

    @api  # type: ignore[untyped-decorator]
    def tiny(self, rows: list[list[float]]) -> list[list[float]]:
        scores: list[list[float]] = self.engine.run(np.array(rows, np.float32)).tolist()
        return scores

    @api  # type: ignore[untyped-decorator]
    def cnn(self, pictures: list[str]) -> list[list[float]]:
        scores: list[list[float]] = self.engine.run_pictures([b64decode(one) for one in pictures]).tolist()
        return scores
