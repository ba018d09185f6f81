"""The model that an instance of Triton's Python backend loads: all waiting requests in one run of the engine."""

from typing import Any

import numpy as np
import triton_python_backend_utils as backend

from benchmarks.peers.programs import asked
from benchmarks.peers.programs.engine import Engine, pixels, scaled


class TritonPythonModel:
    """Named so by Triton."""

    def initialize(self, args: dict[str, Any]) -> None:
        self.name = args["model_name"]
        self.given = {"tiny": "x", "jpeg": "jpeg", "tensor": "image"}[self.name]
        self.engine = Engine(asked.read().file)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in their order."""
        given = [backend.get_input_tensor_by_name(request, self.given).as_numpy() for request in requests]
        scores = self.engine.run(self._rows(np.concatenate(given)))
        responses, at = [], 0
        for rows in map(len, given):
            tensor = backend.Tensor("scores", scores[at : at + rows])
            responses.append(backend.InferenceResponse([tensor]))
            at += rows
        return responses

    def _rows(self, given: Any) -> Any:
        if self.name == "tiny":
            return given
        if self.name == "jpeg":
            return scaled([pixels(one) for one in given[:, 0]])
        return scaled(given)
