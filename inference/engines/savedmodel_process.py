"""The process of one SavedModel: it knows no database and no secrets, and ends when its lines close.

    python -m inference.engines.savedmodel_process FILE THREADS NAMES LINE…

FILE is the SavedModel in a zip, NAMES the signature's input and output names as JSON, each LINE an open socket.
"""

import json
import os
import socket
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.engines import frames
from inference.engines.base import Tensor, Tensors

SIGNATURE = "serving_default"
Run = Callable[[Tensors], dict[str, Tensor]]


def main() -> None:
    """Answers each line in a thread of its own; the first that closes ends the process."""
    path, threads, names, lines = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4:]
    sockets = [socket.socket(fileno=int(line)) for line in lines]
    try:
        run, of_sender = load(path, threads=threads, names=names)
    except Exception as error:
        for line in sockets:
            frames.send(line, {}, error=f"{type(error).__name__}: {error}"[:1000])
        return
    for line in sockets[1:]:
        threading.Thread(target=answer, args=(line, run, of_sender), daemon=True).start()
    answer(sockets[0], run, of_sender)


def load(path: Path, *, threads: int, names: dict[str, list[str]]) -> tuple[Run, tuple[type[Exception], ...]]:
    """The model's signature as a function, and which errors are about what came rather than about the model."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # this service wrote the zip; its sha256 was checked
        model = tf.saved_model.load(folder)
    function = model.signatures[SIGNATURE]
    takes = _named(names["inputs"], list(function.structured_input_signature[1]))
    gives = _named(names["outputs"], list(function.structured_outputs))

    def run(inputs: Tensors) -> dict[str, Tensor]:
        found: dict[str, Any] = function(**{takes[name]: tf.constant(tensor) for name, tensor in inputs.items()})
        return {name: found[inner].numpy() for name, inner in gives.items()}

    run.model = model  # type: ignore[attr-defined]  # the function holds its variables only weakly
    return run, (tf.errors.InvalidArgumentError,)


def _named(wanted: list[str], there: list[str]) -> dict[str, str]:
    """The file's name of each tensor in the signature; a lone one needs no name."""
    if len(wanted) == len(there) == 1:
        return {wanted[0]: there[0]}
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise ValueError(f"The file has the tensors {sorted(there)}; the signature names {missing}.")
    return {name: name for name in wanted}


def answer(line: socket.socket, run: Run, of_sender: tuple[type[Exception], ...]) -> None:
    """Says that the model is ready, then runs what comes, until the line closes."""
    try:
        frames.send(line, {})
        while True:
            inputs = frames.receive(line).tensors
            try:
                outputs = run(inputs)
            except of_sender as error:
                frames.send(line, {}, error=str(error).splitlines()[0][:300], of_sender=True)
            except Exception as error:
                frames.send(line, {}, error=f"{type(error).__name__}: {error}"[:1000])
            else:
                frames.send(line, outputs)
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main()
