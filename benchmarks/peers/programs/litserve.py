"""LitServe: workers of one engine each behind as many HTTP processes, requests handed over through its fast queue."""

from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body, Request

from benchmarks.peers.programs import asked
from benchmarks.peers.programs.engine import Engine, pixels, scaled

ASKED = asked.read()


class Numbers(litserve.LitAPI):  # type: ignore[misc]
    """Rows of numbers as JSON."""

    def setup(self, device: str) -> None:
        self.engine = Engine(ASKED.file)

    def decode_request(self, request: Request) -> Any:
        return request["row"]

    def batch(self, inputs: list[Any]) -> Any:
        return np.array(inputs, np.float32)

    def predict(self, batch: Any) -> Any:
        # Without batching it is called with one input.
        return self.engine.run(self.batch([batch]) if ASKED.batch == 1 else batch)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"scores": output.tolist()}


class Pictures(Numbers):
    """JPEG files or raw pixels, as the body that they are."""

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Any:
        return pixels(request)

    def batch(self, inputs: list[Any]) -> Any:
        return scaled(inputs)


def main() -> None:
    kind = Numbers if ASKED.model == "tiny" else Pictures
    api = kind(max_batch_size=ASKED.batch, batch_timeout=ASKED.wait)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=ASKED.workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=ASKED.port,
        num_api_servers=ASKED.workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
