"""PyTriton: a callable for each instance, bound to a Triton server with its dynamic batcher."""

import os
import signal
import sysconfig
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.programs import asked
from benchmarks.peers.programs.engine import PICTURE, Engine, pixels, scaled

ASKED = asked.read()


def numbers() -> Any:
    """The callable of the tiny model."""
    engine = Engine(ASKED.file)

    @batch  # type: ignore[untyped-decorator]
    def infer(x: Any) -> dict[str, Any]:
        return {"scores": engine.run(x)}

    return infer


def jpegs() -> Any:
    """The callable of the seed CNN for JPEG files."""
    engine = Engine(ASKED.file)

    @batch  # type: ignore[untyped-decorator]
    def infer(jpeg: Any) -> dict[str, Any]:
        return {"scores": engine.run(scaled([pixels(bytes(one)) for one in jpeg[:, 0]]))}

    return infer


def tensors() -> Any:
    """The callable of the seed CNN for raw pixels."""
    engine = Engine(ASKED.file)

    @batch  # type: ignore[untyped-decorator]
    def infer(image: Any) -> dict[str, Any]:
        return {"scores": engine.run(scaled(image))}

    return infer


MODELS = {
    "tiny": (("tiny", numbers, Tensor(name="x", dtype=np.float32, shape=(4,)), 3),),
    "cnn": (
        ("jpeg", jpegs, Tensor(name="jpeg", dtype=bytes, shape=(1,)), 1),
        ("tensor", tensors, Tensor(name="image", dtype=np.uint8, shape=PICTURE), 1),
    ),
}


def main() -> None:
    # The backend embeds a Python: the library of this one, not the system's.
    os.environ["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    # It ends in order, and takes its files in /tmp with it, on SIGINT only.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=ASKED.port,
        grpc_address="127.0.0.1",
        grpc_port=ASKED.other_port,
        allow_metrics=False,
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=ASKED.wait_ms * 1000)
    with Triton(config=config) as triton:
        for name, make, given, scores in MODELS[ASKED.model]:
            triton.bind(
                model_name=name,
                infer_func=[make() for _ in range(ASKED.workers)],
                inputs=[given],
                outputs=[Tensor(name="scores", dtype=np.float32, shape=(scores,))],
                config=ModelConfig(batching=True, max_batch_size=ASKED.batch, batcher=batcher),
            )
        triton.serve()


if __name__ == "__main__":
    main()
