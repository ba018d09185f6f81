"""LiteRT (XNNPACK): an interpreter for each run that goes on at the same time."""

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from inference.engines import litert_library
from inference.engines.base import Tensor, Tensors, Unwritten
from modelhub.signatures import Signature, TensorSpec

logger = logging.getLogger(__name__)


class LiteRT:
    """A LiteRT file. The file is mapped, so that its weights are in memory once beside what each interpreter packs."""

    name = "litert"
    outside_bytes = 0
    per_thread = True
    gone = False

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        self._path = path
        self._signature = signature
        self._threads = threads
        self._free: deque[_Interpreter] = deque()
        self._free.append(self._made())

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        model = self._taken()
        try:
            return model.run(inputs)
        finally:
            self._free.append(model)

    def run_unwritten(self, rows: Unwritten) -> dict[str, Tensor]:
        model = self._taken()
        found = model.run_unwritten(rows)
        self._free.append(model)  # not one that failed: the traceback may have a piece of its memory
        return found

    def close(self) -> None:
        """Gives back the interpreters, and with them what the largest batch so far took; the next run makes one."""
        self._free.clear()

    def _taken(self) -> "_Interpreter":
        """An interpreter that nobody else runs meanwhile; who has it gives it back."""
        try:
            return self._free.pop()
        except IndexError:
            return self._made()

    def _made(self) -> "_Interpreter":
        return _Interpreter.load(self._path, self._signature, self._threads)


@dataclass(slots=True)
class _Interpreter:
    """One interpreter, shaped for its last inputs; shaping it anew costs about 10 µs."""

    interpreter: Any
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    shapes: list[tuple[int, ...]]

    @classmethod
    def load(cls, path: Path, signature: Signature, threads: int) -> "_Interpreter":
        interpreter = _shaped(path, threads)
        # A runner that somebody keeps, if only in a traceback, would keep the interpreter from being shaped.
        inputs = _by_name(signature.inputs, interpreter.get_signature_runner().get_input_details())
        outputs = _by_name(signature.outputs, interpreter.get_signature_runner().get_output_details())
        return cls(
            interpreter=interpreter,
            inputs=tuple((name, details["index"]) for name, details in inputs),
            outputs=tuple((name, details["index"]) for name, details in outputs),
            shapes=[],
        )

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        self._shape_for([inputs[name].shape for name, _ in self.inputs])
        for name, index in self.inputs:
            self.interpreter.set_tensor(index, inputs[name])
        return self._invoked()

    def run_unwritten(self, rows: Unwritten) -> dict[str, Tensor]:
        self._shape_for([rows.shape])
        ((_, index),) = self.inputs
        rows.write_into(self.interpreter.tensor(index)())  # which nobody may have any more when the interpreter runs
        return self._invoked()

    def _invoked(self) -> dict[str, Tensor]:
        self.interpreter.invoke()
        return {name: self.interpreter.get_tensor(index) for name, index in self.outputs}

    def _shape_for(self, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self.shapes:
            return
        self.shapes = []
        for (_, index), shape in zip(self.inputs, shapes, strict=True):
            self.interpreter.resize_tensor_input(index, shape)
        self.interpreter.allocate_tensors()
        self.shapes = shapes


def _shaped(path: Path, threads: int) -> Any:
    """An interpreter whose weights are packed, without Python's lock if the C library is the one that is known."""
    library = litert_library.library()
    if library is not None:
        try:
            return Interpreter(
                model_path=str(path),
                num_threads=threads,
                experimental_delegates=[library.delegate(threads)],
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        except (RuntimeError, litert_library.Failed) as error:
            # The interpreter goes on without its default delegate where that refuses.
            logger.warning("XNNPACK refuses %s (%s); the interpreter decides by itself", path, error)
    return Interpreter(model_path=str(path), num_threads=threads)


def _by_name(specs: tuple[TensorSpec, ...], details: dict[str, Any]) -> list[tuple[str, Any]]:
    """The file's tensor of each name in the signature; a lone one needs no name."""
    if len(specs) == len(details) == 1:
        return [(specs[0].name, next(iter(details.values())))]
    missing = [spec.name for spec in specs if spec.name not in details]
    if missing:
        raise ValueError(f"The file has the tensors {sorted(details)}; the signature names {missing}.")
    return [(spec.name, details[spec.name]) for spec in specs]
