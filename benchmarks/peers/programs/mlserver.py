"""MLServer: a custom runtime with adaptive batching, in parallel workers or in the server's own process."""

import asyncio
from base64 import b64decode

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.programs import asked
from benchmarks.peers.programs.engine import Engine

ASKED = asked.read()


class Model(MLModel):  # type: ignore[misc]
    """Rows of FP32, or pictures and raw pixels as base64, since its REST server takes no binary tensors."""

    async def load(self) -> bool:
        self.engine = Engine(ASKED.file)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        data = getattr(given.data, "root", given.data)
        if ASKED.model == "tiny":
            scores = self.engine.run(np.array(data, np.float32).reshape(given.shape))
        else:
            scores = self.engine.run_pictures([b64decode(one) for one in data])
        output = ResponseOutput(name="scores", shape=list(scores.shape), datatype="FP32", data=scores.ravel().tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve() -> None:
    # One worker is one process: the server's own.
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=ASKED.port,
        grpc_port=ASKED.other_port,
        metrics_endpoint=None,
        parallel_workers=ASKED.workers if ASKED.workers > 1 else 0,
        load_models_at_startup=False,
    )
    server = MLServer(settings)
    model = ModelSettings(
        name="model",
        implementation=Model,
        max_batch_size=ASKED.batch if ASKED.batch > 1 else 0,
        max_batch_time=ASKED.wait if ASKED.batch > 1 else 0.0,
    )
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(serve())
