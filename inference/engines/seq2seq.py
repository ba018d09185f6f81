"""Encoder-decoder models in a bundle: translated by beam search, all rows of a batch together."""

from collections.abc import Iterator
from pathlib import Path

from inference.engines.base import Tensor, Tensors
from modelhub.seq2seq import Bundle
from modelhub.signatures import Signature

INPUTS, OUTPUTS = ("tokens", "lengths"), ("tokens", "lengths", "scores")


class Seq2Seq:
    """A bundle: `tokens` int32 (rows, length) and `lengths` to `tokens` (rows, longest), `lengths` and `scores`."""

    name = "seq2seq"
    outside_bytes = 0
    per_thread = False
    gone = False

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        for what, specs, ours in (("inputs", signature.inputs, INPUTS), ("outputs", signature.outputs, OUTPUTS)):
            if {spec.name for spec in specs} != set(ours):
                raise ValueError(f"The {what} are {', '.join(ours)}; the signature names {[s.name for s in specs]}.")
        self._bundle = Bundle(path, threads=threads)

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        return self._bundle.translate(inputs["tokens"], inputs["lengths"])._asdict()

    def steps(self, inputs: Tensors) -> Iterator[dict[str, Tensor]]:
        """The outputs as they are after each token; the last are those of `run`."""
        for found in self._bundle.steps(inputs["tokens"], inputs["lengths"]):
            yield found._asdict()

    def close(self) -> None:
        del self._bundle
