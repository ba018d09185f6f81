"""The process that does one batch prediction: its folder holds the task, and the results as they grow.

    python -m inference.batch_worker.child FOLDER PIPE

It knows no database and no secrets, yields the processors to whoever answers online, and dies with its worker.
"""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import orjson
from django.conf import settings

from inference import batching
from inference.batch_worker import task as tasks
from inference.batch_worker.task import LINES_FILE, Task
from inference.batching import Joining, Reply, Work
from inference.engines import measuring
from inference.engines.base import Engine, Tensors, blank
from inference.engines.catalog import ENGINES
from modelhub import recipes, signatures
from modelhub.recipes.base import Served
from modelhub.signatures import Signature
from modelhub.trainer.process import die_with_parent
from modelhub.trainer.task import Reporter
from tenants.errors import Refusal

NICENESS = 10
SECONDS_BETWEEN_CHECKPOINTS = 0.25
FAULT = {"status": 500, "title": "A fault on our side", "detail": "The row failed through no fault of yours."}


def main(folder: Path, descriptor: int) -> NoReturn:
    """Runs the task; the exit status says whether every row has its line."""
    os.nice(NICENESS)
    report = Reporter(descriptor)
    try:
        task = tasks.read(folder)
        settings.configure(PICTURE_MAX_PIXELS=task.max_pixels)
        with (folder / LINES_FILE).open("ab") as lines:
            run(task, Results(lines, task, folder / LINES_FILE, descriptor))
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            report.log(line)
        report.failed("The batch ran out of memory." if isinstance(error, MemoryError) else "")
        os._exit(1)
    os._exit(0)


class Results:
    """The lines on disk. A checkpoint is told only of what a crash of the machine would leave there, too."""

    def __init__(self, lines: BinaryIO, task: Task, file: Path, descriptor: int) -> None:
        self._lines = lines
        self._descriptor = descriptor
        self._size = lines.tell()
        digest = tasks.digest_of_first(self._size, file)
        assert digest is not None
        self._digest = digest
        self._done, self._failed = task.done, task.failed
        self._most_answers = len(task.items) if task.most_answers is None else task.most_answers
        self._told_at = time.monotonic()

    @property
    def answers_left(self) -> int:
        """How many more rows may be answered."""
        return max(0, self._most_answers - (self._done - self._failed))

    def add(self, line: bytes, *, failed: bool) -> None:
        self._lines.write(line)
        self._digest.update(line)
        self._size += len(line)
        self._done += 1
        self._failed += failed

    def checkpoint(self, *, now: bool = False) -> None:
        """Makes what is written durable and tells the worker, a few times a second, or now."""
        if not now and time.monotonic() < self._told_at + SECONDS_BETWEEN_CHECKPOINTS:
            return
        self._lines.flush()
        os.fsync(self._lines.fileno())
        told = {
            "done": self._done, "failed": self._failed, "size": self._size, "sha256": self._digest.hexdigest()
        }  # fmt: skip
        message = orjson.dumps({"checkpoint": told}) + b"\n"
        while message:
            message = message[os.write(self._descriptor, message) :]
        self._told_at = time.monotonic()


def run(task: Task, results: Results) -> None:
    """A line for each item that has none yet, in their order, until there are as many answers as may be."""
    signature = signatures.from_json(task.manifest["signature"])
    served = recipes.get(task.recipe).served(task.manifest)
    engine = ENGINES[task.engine](path=Path(task.model_file), signature=signature)
    best_rows = measuring.best_rows(engine, signature)
    results.checkpoint(now=True)
    done = task.done
    while some := task.items[done : done + min(best_rows, results.answers_left)]:
        done += len(some)
        for (name, _), work in zip(some, _answered(some, engine, signature, served, best_rows), strict=True):
            results.add(_line(name, work), failed=work.answer is None)
        results.checkpoint()
    results.checkpoint(now=True)


def _answered(
    items: Sequence[tuple[str, str]], engine: Engine, signature: Signature, served: Served, best_rows: int
) -> list[Work]:
    """The work of each item, with its answer or its error: what is wrong with one fails that one alone."""

    def render(outputs: Tensors) -> Reply:
        return Reply(orjson.dumps(served.answer({name: rows[0] for name, rows in outputs.items()}), default=_plain))

    def prepare(works: list[Work]) -> Tensors:
        spec = signature.inputs[0]
        return {spec.name: batching.fill(works, blank(spec, len(works)), served.prepare)}

    works = [
        Work(rows=1, deadline=float("inf"), render=render, raw=(Path(file).read_bytes(),)) for _, file in items
    ]  # fmt: skip
    batching.run(works, engine=engine, prepare=prepare, joining=Joining(best_rows=best_rows))
    return works


def _line(name: str, work: Work) -> bytes:
    item = orjson.dumps(name)
    if work.answer is not None:
        return b'{"item":' + item + b',"prediction":' + work.answer.body + b"}\n"
    return b'{"item":' + item + b',"error":' + orjson.dumps(_error(work.error)) + b"}\n"


def _error(error: Exception | None) -> dict[str, Any]:
    """What a customer is told of a row that failed: the words that an online prediction would get."""
    if isinstance(error, Refusal):
        return {"status": error.status, "title": error.title, "detail": error.detail}
    return FAULT


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[1]), int(sys.argv[2]))
