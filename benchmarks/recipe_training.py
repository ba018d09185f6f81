"""One training of a recipe, with its defaults, as a training job does it; what the benchmarks of recipes share."""

import json
import os
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelhub import recipes
from modelhub.recipes.base import checked
from modelhub.trainer.process import FASTER
from modelhub.trainer.task import Column, Item, Reporter, Task

VALIDATION = 0.1
Row = dict[str, Any]


def parameters_of(recipe: str, texts: Sequence[str], **given: Any) -> dict[str, Any]:
    """The recipe's parameters: its defaults, but for those given, and those in texts like `epochs=3`."""
    written = dict(text.split("=", 1) for text in texts)
    read = {name: _value(text) for name, text in written.items()}
    return checked(recipes.get(recipe).parameters, given | read)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def train(
    recipe: str,
    parameters: Mapping[str, Any],
    *,
    labels: Iterable[str] = (),
    columns: Iterable[Column] = (),
    splits: Mapping[str, list[Item]],
) -> dict[str, Any]:
    """Runs the training in this process, prints its epochs, gives its metrics with `minutes`, from start to end."""
    from modelhub.trainer import child

    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3"})
    task = Task(
        recipe=recipe,
        parameters=dict(parameters),
        kind=recipes.get(recipe).dataset_kind,
        labels=sorted(labels),
        columns=list(columns),
        train=splits["train"],
        validation=splits["validation"],
        max_pixels=50_000_000,
    )
    reading, writing = os.pipe()
    told = threading.Thread(target=_tell, args=(reading,), daemon=True)
    told.start()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = child.run(task, folder=Path(folder), report=Reporter(writing))
    os.close(writing)
    told.join()
    minutes = round((time.monotonic() - began) / 60, 2)
    metrics: dict[str, Any] = result["metrics"]
    return metrics | {"minutes": minutes, "epochs": result["epochs"], "best_epoch": result["best_epoch"]}


def _tell(pipe: int) -> None:
    """Prints what the training says of its epochs, and its log."""
    with os.fdopen(pipe) as lines:
        for line in lines:
            message = json.loads(line)
            if "log" in message:
                print(message["log"], flush=True)
            if "epoch" in message:
                print(" ".join(f"{name}={_short(value)}" for name, value in message["epoch"].items()), flush=True)


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def divided(rows: Iterable[Row], *, by: str | None, folder: Path) -> dict[str, list[Item]]:
    """The rows as JSON Lines in two splits, a tenth for validation, drawn with the seed 0 from each value of `by`."""
    strata: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        strata[row[by] if by else None].append(row)
    parts: dict[str, list[Row]] = {"train": [], "validation": []}
    draw = random.Random(0)
    for _, some in sorted(strata.items()):
        draw.shuffle(some)
        validating = max(1, round(len(some) * VALIDATION))
        parts["validation"] += some[:validating]
        parts["train"] += some[validating:]
    return {split: [_written(folder / f"{split}.jsonl", found)] for split, found in parts.items()}


def _written(path: Path, rows: list[Row]) -> Item:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return Item(file=str(path), name=path.name, facts={"rows": len(rows)})


def restart_faster() -> None:
    """Starts this program anew with the settings of a training child, which the C library reads at its start."""
    import sys

    if not FASTER.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | FASTER)
