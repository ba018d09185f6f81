"""LiteRT (XNNPACK): an interpreter for each thread that runs it."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from inference.engines.base import Tensor, Tensors
from modelhub.signatures import Signature, TensorSpec


class LiteRT:
    """A LiteRT file. The file is mapped, so that its weights are in memory once beside what each thread packs."""

    name = "litert"

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        self._path = path
        self._threads = threads
        self._signature = signature
        self._of_thread = threading.local()

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        model: _Interpreter | None = getattr(self._of_thread, "model", None)
        if model is None:
            model = self._of_thread.model = _Interpreter.load(self._path, self._signature, self._threads)
        return model.run(inputs)

    def close(self) -> None:
        """Every interpreter goes with the last reference to this engine."""
        self._of_thread = threading.local()


@dataclass(slots=True)
class _Interpreter:
    """One interpreter, shaped for `rows` rows; shaping it anew costs about 10 µs."""

    interpreter: Any
    inputs: tuple[tuple[str, int, list[int]], ...]
    outputs: tuple[tuple[str, int], ...]
    rows: int = -1

    @classmethod
    def load(cls, path: Path, signature: Signature, threads: int) -> "_Interpreter":
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        runner = interpreter.get_signature_runner()
        inputs = _by_name(signature.inputs, runner.get_input_details())
        outputs = _by_name(signature.outputs, runner.get_output_details())
        return cls(
            interpreter=interpreter,
            inputs=tuple((name, details["index"], list(details["shape"])) for name, details in inputs),
            outputs=tuple((name, details["index"]) for name, details in outputs),
        )

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        rows = len(inputs[self.inputs[0][0]])
        if rows != self.rows:
            self._shape_for(inputs)
            self.rows = rows
        for name, index, _ in self.inputs:
            self.interpreter.set_tensor(index, inputs[name])
        self.interpreter.invoke()
        return {name: self.interpreter.get_tensor(index) for name, index in self.outputs}

    def _shape_for(self, inputs: Tensors) -> None:
        self.rows = -1
        for name, index, _ in self.inputs:
            self.interpreter.resize_tensor_input(index, inputs[name].shape)
        self.interpreter.allocate_tensors()


def _by_name(specs: tuple[TensorSpec, ...], details: dict[str, Any]) -> list[tuple[str, Any]]:
    """The file's tensor of each name in the signature; a lone one needs no name."""
    if len(specs) == len(details) == 1:
        return [(specs[0].name, next(iter(details.values())))]
    missing = [spec.name for spec in specs if spec.name not in details]
    if missing:
        raise ValueError(f"The file has the tensors {sorted(details)}; the signature names {missing}.")
    return [(spec.name, details[spec.name]) for spec in specs]
