"""What a batch child is told, and what it tells: a task file in its folder, and checkpoints over a pipe."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from modelhub.trainer.task import Item

TASK_FILE = "task.json"
LINES_FILE = "lines.jsonl"
CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Task:
    """All that a child knows: no database, no secrets.

    `items` are those of the data set in its order, each with its local file, and have so many `rows`. `files` are the
    version's, by their names; `file` is the one that its engine runs. The lines of the first `done` rows, of which
    `failed` are errors, are in the results already; when there are `most_answers` that are none, it stops.
    """

    engine: str
    file: str
    files: dict[str, str]
    recipe: str
    manifest: dict[str, Any]
    items: list[Item]
    rows: int
    done: int
    failed: int
    max_pixels: int
    most_answers: int | None = None

    def write(self, folder: Path) -> None:
        (folder / TASK_FILE).write_bytes(orjson.dumps(asdict(self)))


def read(folder: Path) -> Task:
    """The task that the worker wrote."""
    document = orjson.loads((folder / TASK_FILE).read_bytes())
    return Task(**document | {"items": [Item(**item) for item in document["items"]]})


def digest_of_first(size: int, file: Path) -> "hashlib._Hash | None":
    """The running sha256 of a file's first bytes; none if it has fewer."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        left = size
        while left and (chunk := content.read(min(left, CHUNK))):
            found.update(chunk)
            left -= len(chunk)
    return None if left else found
