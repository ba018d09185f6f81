"""What a training child is told, and what it tells: a task file in its folder, and lines of JSON over a pipe."""

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TASK_FILE = "task.json"
RESULT_FILE = "result.json"
SECONDS_BETWEEN_PROGRESS = 0.2
BATCH = 32  # rows of a training step


class Failure(Exception):
    """The training cannot be done; its text is for the customer."""


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of the data set: its file on this machine, its name in the data set, the index of its class."""

    file: str
    name: str
    label: int


@dataclass(frozen=True, slots=True)
class Task:
    """All that a child knows: no database, no secrets. `seconds`: how long it may take in all, where it is bounded."""

    recipe: str
    parameters: dict[str, Any]
    labels: list[str]
    train: list[Item]
    validation: list[Item]
    max_pixels: int
    seconds: float | None = None

    def write(self, folder: Path) -> None:
        items = {split: [[i.file, i.name, i.label] for i in getattr(self, split)] for split in ("train", "validation")}
        document = {
            "recipe": self.recipe,
            "parameters": self.parameters,
            "labels": self.labels,
            "max_pixels": self.max_pixels,
            "seconds": self.seconds,
            **items,
        }
        (folder / TASK_FILE).write_text(json.dumps(document))


def read(folder: Path) -> Task:
    """The task that the trainer wrote."""
    document = json.loads((folder / TASK_FILE).read_text())
    for split in ("train", "validation"):
        document[split] = [Item(file=f, name=n, label=k) for f, n, k in document[split]]
    return Task(**document)


class Reporter:
    """The child's end of the pipe; `progress` may be called as often as one likes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._phase = ""
        self._next = 0.0

    def progress(self, phase: str, done: int, total: int, **more: int | str) -> None:
        now = time.monotonic()
        if phase == self._phase and now < self._next and done < total:
            return
        self._phase, self._next = phase, now + SECONDS_BETWEEN_PROGRESS
        self._send({"progress": {"phase": phase, "done": done, "total": total, **more}})

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self._send({"epoch": dict(metrics)})

    def log(self, text: str) -> None:
        self._send({"log": text})

    def failed(self, text: str) -> None:
        self._send({"failed": text})

    def _send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]
