"""Measuring in a process of its own, where nothing else waits for Python's lock or is kept waiting for it.

    python -m inference.engines.measuring_process < TASK > TABLE

The process knows no database and no secrets. What is small is measured where it is loaded; starting this takes longer.
"""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines import catalog, measuring
from inference.engines.base import Engine, Tensor
from inference.engines.measuring import Asked, Candidate, Times
from modelhub import signatures

ROOT = Path(__file__).resolve().parent.parent.parent
# Up to this size a measurement is short, and whatever an engine does with Python's lock takes a few milliseconds.
SMALL_BYTES = 1024**2
MOST_SECONDS = 600.0
# All of the environment that the process gets: neither the database's address nor any secret.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")


def measure(paths: Mapping[Candidate, Path], asked: Asked) -> list[Times]:
    """The times of each candidate; in a process of its own if a file is large, unless the engine itself takes texts."""
    texts = asked.row is not None and any(tensor.dtype.kind == "O" for tensor in asked.row.values())
    if texts or max(path.stat().st_size for path in paths.values()) <= SMALL_BYTES:
        return _measured(paths, asked)
    task = {
        "candidates": [[candidate.engine, candidate.file, str(path)] for candidate, path in paths.items()],
        "signature": asked.signature.as_json(),
        "batched": asked.batched,
        "typical": {name: list(sizes) for name, sizes in asked.typical.items()},
        "row": None if asked.row is None else {name: _written(tensor) for name, tensor in asked.row.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "inference.engines.measuring_process"],
        cwd=ROOT,
        env={name: os.environ[name] for name in INHERITED if name in os.environ},
        input=json.dumps(task).encode(),
        capture_output=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"measuring ended with the status {done.returncode}: {words}")
    return measuring.from_json(json.loads(done.stdout.splitlines()[-1]))


def _measured(paths: Mapping[Candidate, Path], asked: Asked) -> list[Times]:
    def make(candidate: Candidate, threads: int) -> Engine:
        return catalog.ENGINES[candidate.engine](path=paths[candidate], signature=asked.signature, threads=threads)

    return measuring.measure(paths, make, asked)


def _written(tensor: Tensor) -> str:
    """A tensor as text, for the task."""
    stream = io.BytesIO()
    np.save(stream, tensor, allow_pickle=False)
    return base64.b64encode(stream.getvalue()).decode()


def _read(text: str) -> Tensor:
    found: Tensor = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return found


def main() -> None:
    """Measures what it is told, and prints the table on its last line."""
    task: dict[str, Any] = json.load(sys.stdin)
    paths = {Candidate(engine, file): Path(path) for engine, file, path in task["candidates"]}
    asked = Asked(
        signatures.from_json(task["signature"]), task["batched"], task["typical"],
        row=None if task["row"] is None else {name: _read(text) for name, text in task["row"].items()},
    )  # fmt: skip
    table = _measured(paths, asked)
    print(json.dumps(measuring.as_json(table)))  # noqa: T201


if __name__ == "__main__":
    main()
