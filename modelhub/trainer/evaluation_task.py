"""What the process of an evaluation is told: a task file in its folder. It tells what a training's tells."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelhub.trainer.task import Item

TASK_FILE = "task.json"
RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """A version's manifest and where its files lie by their names, and the items that it is asked about.

    `rows` is how many rows the items are; an item of a kind of rows holds several.
    """

    recipe: str
    kind: str
    manifest: dict[str, Any]
    files: dict[str, str]
    items: Sequence[Item]
    rows: int
    slices: Sequence[str]
    max_pixels: int

    def write(self, folder: Path) -> None:
        (folder / TASK_FILE).write_text(json.dumps(asdict(self)))


def read(folder: Path) -> EvaluationTask:
    """The task that the trainer wrote."""
    document = json.loads((folder / TASK_FILE).read_text())
    document["items"] = [Item(**item) for item in document["items"]]
    return EvaluationTask(**document)
