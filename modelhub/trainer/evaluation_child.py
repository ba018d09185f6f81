"""The process that does one evaluation: its folder holds the task, and will hold the result.

    python -m modelhub.trainer.evaluation_child FOLDER PIPE

It runs the version's served file over raw rows, through what serving does around it. It knows no database and no
secrets, reports over the pipe as a training does (`task.Reporter`), and dies with the trainer.
"""

import base64
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from modelhub import assessment, priority, recipes, runners, signatures
from modelhub.assessment import Answers
from modelhub.recipes.learning import Example, Tensors
from modelhub.signatures import BYTES, TensorSpec
from modelhub.trainer import evaluation_task
from modelhub.trainer.evaluation_task import RESULT_FILE, EvaluationTask
from modelhub.trainer.process import die_with_parent
from modelhub.trainer.task import Failure, Reporter
from tenants.errors import Refusal

# Rows that are looked at together, so that those of one length can be run together.
WINDOW = 64
BATCH = 16
MAX_LEFT_OUT = 100
THUMBNAIL = 96


def main(folder: Path, report: Reporter) -> NoReturn:
    """Runs the task; the exit status says whether there is a result."""
    try:
        task = evaluation_task.read(folder)
        configure(task)
        (folder / RESULT_FILE).write_text(json.dumps(run(task, report=report), allow_nan=False))
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            report.log(line)
        report.failed(_in_words(error))
        os._exit(1)
    os._exit(0)


def configure(task: EvaluationTask) -> None:
    """The settings that the serving side of a recipe reads."""
    from django.conf import settings

    settings.configure(PICTURE_MAX_PIXELS=task.max_pixels)


def run(task: EvaluationTask, *, report: Reporter) -> dict[str, Any]:
    """The result and the mistakes, ready for the database."""
    report.progress("starting", 0, 1)
    recipe = recipes.get(task.recipe)
    version = _Version(task)
    began = time.monotonic()
    answers, left_out = answered(version, recipe.examples(task.items), rows=task.rows, report=report)
    seconds = time.monotonic() - began
    if not len(answers):
        first = f" The first: {left_out[0]['name']}: {left_out[0]['problem']}" if left_out else ""
        raise Failure(f"None of the {task.rows:,} rows could be answered.{first}")
    report.progress("measuring", 0, 1)
    result = assessment.assessed(answers, recipe=recipe, manifest=task.manifest, slices=task.slices)
    result["left_out"] = {"rows": len(left_out), "first": left_out[:MAX_LEFT_OUT]}
    result["timing"] = {"rows": len(answers), "seconds": round(seconds, 3)}
    return {"result": result, "mistakes": _pictured(assessment.mistakes(answers, manifest=task.manifest), task)}


class _Version:
    """A version as it serves: raw inputs of the signature in, the signature's outputs out."""

    def __init__(self, task: EvaluationTask) -> None:
        recipe: Any = recipes.get(task.recipe)
        self.signature = signatures.from_json(task.manifest["signature"])
        self._run = runners.open(task.manifest, self._path_of(task))
        piped = "tensors" in task.manifest["serving"]
        self._pipeline = recipe.pipeline(task.manifest, self._path_of(task)) if piped else None
        self._served = None if piped else recipe.served(task.manifest)

    def bucket(self, example: Example) -> int:
        """What is to be run together with it: rows of about its length."""
        if self._pipeline is None:
            return 0
        return int(self._pipeline.buckets(self._raw([example])))

    def answer(self, examples: Sequence[Example]) -> Tensors:
        """The signature's outputs, a row for each example; raises Refusal if one of them is refused."""
        if self._pipeline is None:
            return self._run(self._prepared(examples))
        found: Tensors = self._pipeline.decode(self._run(self._pipeline.encode(self._raw(examples))))
        return found

    def _raw(self, examples: Sequence[Example]) -> dict[str, NDArray[Any]]:
        return {
            spec.name: _column(spec, [example.inputs.get(spec.name) for example in examples])
            for spec in self.signature.inputs
        }

    def _prepared(self, examples: Sequence[Example]) -> dict[str, NDArray[Any]]:
        """Raw files into the engine's only input, by the code that serving uses."""
        (spec,) = self.signature.inputs
        rows = np.empty((len(examples), *spec.shape[1:]), spec.numpy)
        assert self._served is not None
        for row, example in zip(rows, examples, strict=True):
            self._served.write(self._served.read(example.inputs[spec.name]), row)
        return {spec.name: rows}

    @staticmethod
    def _path_of(task: EvaluationTask) -> Any:
        return lambda name: Path(task.files[name])


def answered(
    version: _Version, examples: Iterable[Example], *, rows: int, report: Reporter
) -> tuple[Answers, list[dict[str, str]]]:
    """All answers in the order of the rows, and which rows were refused, with why."""
    answers, done = Answers(), 0
    left_out: list[dict[str, str]] = []
    parts: list[Tensors] = []
    source = iter(examples)
    while window := list(islice(source, WINDOW)):
        found: dict[int, Tensors] = {}
        for places in _batches(version, window):
            for place, outputs in _tried(version, window, places, left_out):
                found[place] = outputs
        for place in sorted(found):
            example = window[place]
            answers.names.append(example.name)
            answers.truths.append(example.truth)
            answers.slices.append(_slices(example))
            parts.append(found[place])
        done += len(window)
        report.progress("evaluating", min(done, rows), rows)
    names = parts[0].keys() if parts else ()
    answers.outputs = {name: _joined([part[name] for part in parts]) for name in names}
    return answers, left_out


def _batches(version: _Version, window: Sequence[Example]) -> Iterator[list[int]]:
    """Places of the window that are run together: of one bucket, and not too many."""
    buckets: dict[int, list[int]] = {}
    for place, example in enumerate(window):
        buckets.setdefault(version.bucket(example), []).append(place)
    for places in buckets.values():
        for start in range(0, len(places), BATCH):
            yield places[start : start + BATCH]


def _tried(
    version: _Version, window: Sequence[Example], places: list[int], left_out: list[dict[str, str]]
) -> Iterator[tuple[int, Tensors]]:
    """Each place with its outputs, of one row; one that is refused alone is left out, and does not hold up the rest."""
    try:
        outputs = version.answer([window[place] for place in places])
    except Refusal as refusal:
        if len(places) > 1:
            for place in places:
                yield from _tried(version, window, [place], left_out)
        else:
            left_out.append({"name": window[places[0]].name, "problem": refusal.detail})
        return
    for row, place in enumerate(places):
        yield place, {name: tensor[row : row + 1] for name, tensor in outputs.items()}


def _slices(example: Example) -> dict[str, str]:
    """What a row may be grouped by: what its recipe says, and the folder that its file lies in."""
    folder, slash, _ = example.name.rpartition("/")
    return ({"folder": folder} if slash else {}) | dict(example.slices)


def _column(spec: TensorSpec, values: list[Any]) -> NDArray[Any]:
    """One input of so many rows; what is missing is empty, or NaN."""
    if spec.dtype == BYTES:
        texts = np.empty(len(values), object)
        texts[:] = [_bytes(value) for value in values]
        return texts.reshape(len(values), *spec.shape[1:])
    numbers = np.array([np.nan if value is None else value for value in values])
    return numbers.astype(spec.numpy).reshape(len(values), *spec.shape[1:])


def _bytes(value: Any) -> bytes:
    """A value as an input of bytes has it, the same as the prediction plane makes of JSON."""
    if isinstance(value, bytes):
        return value
    return b"" if value is None else (value if isinstance(value, str) else json.dumps(value)).encode()


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """One output of all rows; rows of different shapes are an array of arrays."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    rows = np.empty(len(parts), object)
    rows[:] = [part[0] for part in parts]
    return rows


def _pictured(mistakes: list[dict[str, Any]], task: EvaluationTask) -> list[dict[str, Any]]:
    """Where the rows are pictures, each mistake with a small JPEG of it, in base64."""
    if task.kind != "image-classification":
        return mistakes
    files = {item.name: item.file for item in task.items}
    return [mistake | {"picture": _thumbnail(Path(files[mistake["name"]]), task.max_pixels)} for mistake in mistakes]


def _thumbnail(file: Path, max_pixels: int) -> str:
    from PIL import Image

    from modelhub import pictures

    pixels = pictures.decode(file.read_bytes(), max_pixels=max_pixels)
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return base64.b64encode(written.getvalue()).decode()


def _in_words(error: Exception) -> str:
    if isinstance(error, Failure | Refusal | runners.NoRunner):
        return str(error)
    if isinstance(error, MemoryError):
        return "The evaluation ran out of memory."
    return "The evaluation broke off with a fault of ours. Please tell us its id."


if __name__ == "__main__":
    die_with_parent()
    priority.give_way()
    main(Path(sys.argv[1]), Reporter(int(sys.argv[2])))
