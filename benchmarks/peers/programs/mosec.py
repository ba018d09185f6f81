"""mosec: one stage of worker processes; JSON by orjson, pictures and tensors as the bytes they are."""

import sys
from typing import Any

import numpy as np
import orjson
from mosec import Server, Worker

from benchmarks.peers.programs import asked
from benchmarks.peers.programs.engine import Engine

ASKED = asked.read()


class Numbers(Worker):  # type: ignore[misc]
    """Rows of numbers as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(ASKED.file)

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)["row"]

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps({"scores": data})

    def forward(self, data: Any) -> Any:
        if ASKED.batch == 1:
            return self.scores([data])[0]  # one request, not a list of them
        return self.scores(data)

    def scores(self, data: list[Any]) -> Any:
        return self.engine.run(np.array(data, np.float32)).tolist()


class Pictures(Numbers):
    """JPEG files or raw pixels."""

    def deserialize(self, data: bytes) -> bytes:
        return data

    def scores(self, data: list[Any]) -> Any:
        return self.engine.run_pictures(data).tolist()


def main() -> None:
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(ASKED.port), "--log-level", "warning"]
    server = Server()
    worker = Numbers if ASKED.model == "tiny" else Pictures
    server.append_worker(worker, num=ASKED.workers, max_batch_size=ASKED.batch, max_wait_time=ASKED.wait_ms)
    server.run()


if __name__ == "__main__":
    main()
