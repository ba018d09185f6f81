"""The process that does one batch prediction: its folder holds the task, and the results as they grow.

    python -m inference.batch_worker.child FOLDER PIPE

It knows no database and no secrets, yields the processors to whoever answers online, and dies with its worker.
"""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import orjson
from django.conf import settings

from inference import batching
from inference.batch_worker import task as tasks
from inference.batch_worker.task import LINES_FILE, Task
from inference.batching import Joining
from inference.cells import column
from inference.engines import measuring, piped
from inference.engines.base import Engine, Tensors, Unwritten
from inference.engines.catalog import ENGINES
from inference.engines.piped import Piped
from inference.work import Reply, Work
from modelhub import priority, recipes, signatures
from modelhub.recipes import serving
from modelhub.recipes.learning import Example
from modelhub.trainer.process import die_with_parent
from modelhub.trainer.task import Reporter
from tenants.errors import Invalid, Refusal

SECONDS_BETWEEN_CHECKPOINTS = 0.25
BATCHES_AT_ONCE = 8
FAULT = {"status": 500, "title": "A fault on our side", "detail": "The row failed through no fault of yours."}


def main(folder: Path, descriptor: int) -> NoReturn:
    """Runs the task; the exit status says whether every row has its line."""
    priority.give_way(priority.BACKGROUND)
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
        self._most_answers = task.rows if task.most_answers is None else task.most_answers
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
    """A line for each row that has none yet, in their order, until there are as many answers as may be."""
    version = _Version(task)
    results.checkpoint(now=True)
    examples = islice(recipes.get(task.recipe).examples(task.items), task.done, None)
    while some := list(islice(examples, min(version.rows_at_once, results.answers_left))):
        for example, work in zip(some, version.answered(some), strict=True):
            results.add(_line(example.name, work), failed=work.answer is None)
        results.checkpoint()
    results.checkpoint(now=True)


class _Version:
    """A version as the plane serves it: the same pipeline or preparing, engine and answers, in batches."""

    def __init__(self, task: Task) -> None:
        paths = {name: Path(path) for name, path in task.files.items()}
        self._signature = signatures.from_json(task.manifest["signature"])
        self._pipeline = serving.pipeline(task.recipe, task.manifest, paths.__getitem__)
        self._served = serving.served(task.recipe, task.manifest)
        asked = piped.asked_of(task.manifest, self._pipeline)
        engine = ENGINES[task.engine](path=paths[task.file], signature=asked.signature)
        self._best_rows = measuring.best_rows(engine, asked)
        self._engine: Engine = engine if self._pipeline is None else Piped(engine, self._pipeline)
        # Rows of like length are found among several batches.
        self.rows_at_once = self._best_rows * (1 if self._pipeline is None else BATCHES_AT_ONCE)

    def answered(self, examples: Sequence[Example]) -> list[Work]:
        """The work of each row, with its answer or its error: what is wrong with one fails that one alone."""
        works = [self._work(example) for example in examples]
        alike = sorted((work for work in works if work.error is None), key=lambda work: work.bucket)
        for _, group in groupby(alike, key=lambda work: work.bucket):
            while batch := list(islice(group, self._best_rows)):
                prepare = self._prepare if self._pipeline is None else None
                batching.run(batch, engine=self._engine, prepare=prepare, joining=Joining(best_rows=self._best_rows))
        return works

    def _work(self, example: Example) -> Work:
        work = Work(rows=1, deadline=float("inf"), render=self._render)
        specs = self._signature.inputs
        if self._pipeline is None:
            work.raw = (example.inputs[specs[0].name],)
            return work
        try:
            work.inputs = {spec.name: column([_given(example, spec.name)], spec) for spec in specs}
            work.bucket = self._pipeline.buckets(work.inputs)
        except Refusal as refusal:
            work.error = refusal
        return work

    def _render(self, outputs: Tensors) -> Reply:
        speaker = self._pipeline or self._served
        assert speaker is not None
        answer = speaker.answer({name: rows[0, ...] for name, rows in outputs.items()})
        return Reply(orjson.dumps(answer, default=_plain))

    def _prepare(self, works: list[Work], more: batching.More | None) -> Unwritten:
        assert self._served is not None
        return Unwritten(self._signature.inputs[0], batching.read(works, self._served.read), self._served.write)


def _given(example: Example, name: str) -> Any:
    if name not in example.inputs:
        raise Invalid(f"The row has no {name!r}, which the model takes; it has {', '.join(example.inputs)[:200]}.")
    return example.inputs[name]


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
