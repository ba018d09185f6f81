"""Trainings of recipes in the test's own process, and their versions as a host would serve them."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub import recipes, runners
from modelhub.recipes.base import checked
from modelhub.recipes.learning import Pipeline
from modelhub.trainer import child
from modelhub.trainer.task import Column, Item, Reporter, Task


@dataclass(frozen=True)
class Version:
    """What a training left behind."""

    result: dict[str, Any]
    folder: Path
    log: list[str]
    pipeline: Pipeline

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The signature's outputs for its inputs, by the version's file."""
        run = runners.open(self.result, self.folder.joinpath)
        return dict(self.pipeline.decode(run(self.pipeline.encode(inputs))))

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """The answer for one row."""
        return self.pipeline.answer({name: np.asarray(one[0]) for name, one in self.run(inputs).items()})


def task(
    recipe: str,
    parameters: Mapping[str, Any],
    *,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    folder: Path,
    labels: Iterable[str] = (),
    columns: Iterable[Column] = (),
) -> Task:
    """A task whose rows are written as JSON Lines into the folder, each called like `train:3`."""
    found = recipes.get(recipe)
    return Task(
        recipe=recipe,
        parameters=checked(found.parameters, parameters),
        kind=found.dataset_kind,
        labels=sorted(labels),
        columns=list(columns),
        train=[_item(folder, "train", splits["train"])],
        validation=[_item(folder, "validation", splits["validation"])],
        max_pixels=1,
    )


def trained(task: Task, folder: Path) -> Version:
    """Runs a task to its end. Raises Failure."""
    log = folder / "log"
    with log.open("wb") as told:
        result = child.run(task, folder=folder, report=Reporter(told.fileno()))
    return Version(
        result=result,
        folder=folder,
        log=logged(log),
        pipeline=recipes.get(task.recipe).pipeline(result, folder.joinpath),  # type: ignore[attr-defined]
    )


def logged(told: Path) -> list[str]:
    """What a reporter was told for the log."""
    return [message["log"] for message in map(json.loads, told.read_text().splitlines()) if "log" in message]


def silent() -> Reporter:
    """A reporter that nobody listens to."""
    return Reporter(os.open(os.devnull, os.O_WRONLY))


def texts(*given: str) -> NDArray[Any]:
    """A BYTES tensor of shape (rows,)."""
    found = np.empty(len(given), object)
    found[:] = [text.encode() for text in given]
    return found


def _item(folder: Path, split: str, rows: Sequence[Mapping[str, Any]]) -> Item:
    path = folder / f"{split}.jsonl"
    named = [{"name": f"{split}:{number}", **row} for number, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in named))
    return Item(file=str(path), name=path.name, facts={"rows": len(rows)})
