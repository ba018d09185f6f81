"""ONNX Runtime on the processor: one session for all threads, each run on so many threads as it is told."""

from pathlib import Path

import numpy as np
import onnxruntime

from inference.engines.base import Tensor, Tensors
from modelhub.signatures import BYTES, Signature
from tenants.errors import Invalid


class Onnx:
    """An ONNX file without external data. It takes every dtype, strings among them, and dimensions of any size."""

    name = "onnx"
    outside_bytes = 0
    per_thread = False
    gone = False

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # An arena keeps the memory of the largest batch there ever was.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = [spec.name for spec in signature.outputs]
        self._texts = {spec.name for spec in signature.inputs if spec.dtype == BYTES}
        _check("inputs", set(self._inputs), {one.name for one in self._session.get_inputs()})
        _check("outputs", set(self._outputs), {one.name for one in self._session.get_outputs()})

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        given = {name: _decoded(tensor) if name in self._texts else tensor for name, tensor in inputs.items()}
        found = self._session.run(self._outputs, given)
        return {name: _as_bytes(np.asarray(tensor)) for name, tensor in zip(self._outputs, found, strict=True)}

    def close(self) -> None:
        del self._session


def _decoded(tensor: Tensor) -> Tensor:
    """Bytes as the texts that the runtime takes."""
    texts = np.empty(tensor.size, object)
    try:
        texts[:] = [one.decode() for one in tensor.ravel()]
    except UnicodeDecodeError as error:
        raise Invalid(f"A text is not UTF-8: {error}.") from error
    return texts.reshape(tensor.shape)


def _as_bytes(tensor: Tensor) -> Tensor:
    if tensor.dtype.kind != "O":
        return tensor
    found = np.empty(tensor.size, object)
    found[:] = [one.encode() for one in tensor.ravel()]
    return found.reshape(tensor.shape)


def _check(what: str, signature: set[str], file: set[str]) -> None:
    if not signature <= file:
        raise ValueError(f"The file has the {what} {sorted(file)}; the signature names {sorted(signature - file)}.")
