"""Versions run outside of the prediction plane: a manifest's served file as a function from tensors to tensors.

For the trainer's children and tests. What answers customers is `inference/engines`, which this does not import.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelhub import signatures
from modelhub.recipes.base import Manifest
from modelhub.recipes.learning import PathOf, Tensors
from modelhub.signatures import Signature

Run = Callable[[Tensors], Tensors]


class NoRunner(ValueError):
    """The version is served by an engine that has no runner here."""


def open(manifest: Manifest, path_of: PathOf, *, threads: int = 1) -> Run:  # noqa: A001  (called as runners.open)
    """The file that the version is served by, ready to run: its engine's inputs to its engine's outputs, by name.

    Every tensor's first dimension is the rows. Raises NoRunner.
    """
    serving = manifest["serving"]
    engine = serving.get("engine")
    if engine not in ENGINES:
        raise NoRunner(f"The version is served by {engine!r}; expected one of {', '.join(ENGINES)}.")
    signature = signatures.from_json(serving.get("tensors") or manifest["signature"])
    return ENGINES[engine](path_of(serving["file"]), signature, threads)


def litert(path: Path, signature: Signature, threads: int = 1) -> Run:
    """A LiteRT file; a lone tensor of it needs no name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    run = interpreter.get_signature_runner()
    given = _names([spec.name for spec in signature.inputs], list(run.get_input_details()))
    answered = _names([spec.name for spec in signature.outputs], list(run.get_output_details()))

    def answer(tensors: Tensors) -> Tensors:
        found = run(**{inner: tensors[name] for name, inner in given.items()})
        return {name: found[inner] for name, inner in answered.items()}

    return answer


def onnx(path: Path, signature: Signature, threads: int = 1) -> Run:
    """An ONNX file by ONNX Runtime; a lone tensor of it needs no name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = _names([spec.name for spec in signature.inputs], [one.name for one in session.get_inputs()])
    answered = _names([spec.name for spec in signature.outputs], [one.name for one in session.get_outputs()])

    def answer(tensors: Tensors) -> Tensors:
        found = session.run(list(answered.values()), {inner: tensors[name] for name, inner in given.items()})
        return dict(zip(answered, found, strict=True))

    return answer


def seq2seq(path: Path, signature: Signature, threads: int = 1) -> Run:
    """A bundle of an encoder and a decoder: `tokens` and `lengths` in, those of the answer and `scores` out."""
    bundle: Any = importlib.import_module("modelhub.seq2seq").Bundle(path, threads=threads)

    def answer(tensors: Tensors) -> Tensors:
        found: dict[str, Any] = bundle.translate(tensors["tokens"], tensors["lengths"])._asdict()
        return found

    return answer


ENGINES: dict[str, Callable[[Path, Signature, int], Run]] = {"litert": litert, "onnx": onnx, "seq2seq": seq2seq}


def _names(expected: list[str], there: list[str]) -> dict[str, str]:
    """For each tensor of the signature the file's name of it."""
    if len(expected) == len(there) == 1:
        return {expected[0]: there[0]}
    missing = [name for name in expected if name not in there]
    if missing:
        raise NoRunner(f"The file has the tensors {', '.join(there)}; the signature names {', '.join(missing)}.")
    return {name: name for name in expected}
