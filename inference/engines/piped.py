"""An engine behind a version's pipeline: it takes and gives the signature's tensors, whatever the engine's own are."""

from collections.abc import Generator, Mapping
from typing import Any

from inference.engines.base import BadRows, Engine, Tensor, Tensors
from inference.engines.measuring import Asked
from modelhub import signatures
from modelhub.recipes.learning import Pipeline, Sampled, Streaming
from tenants.errors import Refusal


class Piped:
    """Encodes, runs, decodes: an engine like any other, in the thread that runs it."""

    def __init__(self, engine: Engine, pipeline: Pipeline) -> None:
        self.name = engine.name
        self.per_thread = engine.per_thread
        self.inner = engine
        self._pipeline = pipeline

    @property
    def outside_bytes(self) -> int:
        return self.inner.outside_bytes

    @property
    def gone(self) -> bool:
        return self.inner.gone

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """The signature's inputs to its outputs. Raises BadRows for those that the pipeline refuses."""
        return dict(self._pipeline.decode(self.inner.run(self.encode(inputs))))

    def encode(self, inputs: Tensors) -> Tensors:
        """The engine's own tensors for these rows. Raises BadRows."""
        try:
            return self._pipeline.encode(inputs)
        except Refusal as refusal:
            if refusals := self._refusals(inputs):
                raise BadRows(refusals) from refusal
            raise

    def stream(self, inputs: Tensors) -> Generator[dict[str, Any], None, Tensors]:
        """One row, as far as it is known, and in the end its outputs; only of a pipeline that is Streaming."""
        assert isinstance(self._pipeline, Streaming)
        return self._pipeline.stream(inputs, self.inner)

    def close(self) -> None:
        self.inner.close()

    def _refusals(self, inputs: Tensors) -> dict[int, Refusal]:
        """Which of the rows are refused, each asked about alone."""
        found = {}
        for row in range(len(next(iter(inputs.values())))):
            try:
                self._pipeline.encode({name: tensor[row : row + 1] for name, tensor in inputs.items()})
            except Refusal as refusal:
                found[row] = refusal
        return found


def asked_of(manifest: Mapping[str, Any], pipeline: Pipeline | None) -> Asked:
    """What a version's engines are measured with: their own tensors, filled by its pipeline where it can."""
    about = manifest["serving"]
    return Asked(
        signatures.from_json(about["tensors"] if pipeline is not None else manifest["signature"]),
        batched=about.get("batched", True),
        typical=about.get("typical", {}),
        row=pipeline.encode(pipeline.sample(1)) if isinstance(pipeline, Sampled) else None,
    )
