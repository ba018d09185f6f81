"""What a training child is told, and what it tells: a task file in its folder, and lines of JSON over a pipe."""

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TASK_FILE = "task.json"
RESULT_FILE = "result.json"
# The trainer puts it into the folder when the child shall stop where it is, and keep the best so far.
STOP_FILE = "stop"
SECONDS_BETWEEN_PROGRESS = 0.2

Fact = int | float | str


class Failure(Exception):
    """The training cannot be done; its text is for the customer."""


class NothingToKeep(Exception):
    """The training was told to stop before there was anything to keep."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the data set: its file on this machine, its name in the data set, and what is known of it.

    `target` is a file's class or transcript, `group` its speaker; of files of rows, `facts` has their number: `rows`.
    """

    file: str
    name: str
    target: str = ""
    group: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; its type is number, integer, category, boolean or text."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Task:
    """All that a child knows: no database, no secrets.

    `labels` are the data set's classes, sorted. `seconds`: how long it may take in all, where it is bounded.
    `checkpoint` is the file to go on from; a new one is written at least every `checkpoint_seconds`, and none that is
    larger than `max_checkpoint_bytes`. `warm_files` are the files, by name, of the version whose weights to begin with,
    which is called `warm_start`.
    """

    recipe: str
    parameters: dict[str, Any]
    kind: str
    labels: list[str]
    columns: list[Column]
    train: list[Item]
    validation: list[Item]
    max_pixels: int
    seconds: float | None = None
    checkpoint: str = ""
    checkpoint_seconds: float = 300.0
    max_checkpoint_bytes: int = 4 * 1024**3
    warm_start: str = ""
    warm_files: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        (folder / TASK_FILE).write_text(json.dumps(asdict(self)))

    def rows(self, split: str) -> int:
        """How many rows a split has: an item is one, unless it is a file of rows."""
        items: list[Item] = getattr(self, split)
        return sum(int(item.facts.get("rows", 1)) for item in items)


def read(folder: Path) -> Task:
    """The task that the trainer wrote."""
    document = json.loads((folder / TASK_FILE).read_text())
    for split in ("train", "validation"):
        document[split] = [Item(**item) for item in document[split]]
    document["columns"] = [Column(**column) for column in document["columns"]]
    return Task(**document)


class Reporter:
    """The child's end of the pipe; `progress` may be called as often as one likes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._phase = ""
        self._next = 0.0

    def progress(self, phase: str, done: int, total: int, **more: int | float | str) -> None:
        now = time.monotonic()
        if phase == self._phase and now < self._next and done < total:
            return
        self._phase, self._next = phase, now + SECONDS_BETWEEN_PROGRESS
        self._send({"progress": {"phase": phase, "done": done, "total": total, **more}})

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self._send({"epoch": dict(metrics)})

    def checkpoint(self, about: Mapping[str, Any]) -> None:
        """A checkpoint lies in the folder: its `file`, `sha256` and `size`, and the `epochs` that it has behind it."""
        self._send({"checkpoint": dict(about)})

    def log(self, text: str) -> None:
        self._send({"log": text})

    def failed(self, text: str) -> None:
        self._send({"failed": text})

    def _send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]
