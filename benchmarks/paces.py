"""Examples a second of each recipe's training loop beside the plain Keras script that a tutorial would have.

Both train the same model with the same loss on the same real data, in turns, a round of the one after a round of the
other. The script is what tutorials do: every example padded to the longest of all, batches of one size drawn from all
of them, Keras's Adam, `model.fit`. The first round of each is not counted: graphs are traced in it. Pictures are in
`benchmarks/training.py`, beside the seed's own script. Writes `benchmarks/results/paces.json`.

    python -m benchmarks.paces [recipe …]

The memory of our loop is looked at over whole epochs, in a process of its own: from the third to the sixth it must not
grow. Before, the libraries keep what they have worked out for each length of a batch that they meet.
"""

import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks import recipe_speech, recipe_tables, recipe_training
from modelhub.trainer.process import FASTER
from modelhub.trainer.task import Column, Reporter, Task

RESULTS = Path(__file__).parent / "results"
DATA = Path("../shared/data")
BATCH = 32
ROUNDS = 5
STEPS = {"text-classifier": 60, "tabular": 12, "speech-recognizer": 12, "translator": 12}
PAIRS = 6000
WANTED = 1.0
EPOCHS, WARM = 6, 3
GROWTH = 1.05

Round = Callable[[], tuple[int, float]]  # examples, seconds


def main(*names: str) -> None:
    found = {name: _beside(name) for name in names or TASKS}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "paces.json").write_text(json.dumps(found, indent=1))
    print(f"written to {RESULTS.name}/paces.json")


def _beside(name: str) -> dict[str, Any]:
    """Ours and the script's, in turns."""
    rounds: dict[str, list[float]] = {who: [] for who in WHO}
    with tempfile.TemporaryDirectory() as scratch:
        workers = {who: _Worker(who, name, Path(scratch) / who) for who in WHO}
        for number in range(ROUNDS + 1):
            for who, worker in workers.items():
                told = worker.round()
                if number:
                    rounds[who].append(told["examples"] / told["seconds"])
        for worker in workers.values():
            worker.close()
        whole = _Worker("ours", name, Path(scratch) / "whole", "--whole")
        memory = [whole.round()["bytes"] for _ in range(EPOCHS)]
        whole.close()
    ratios = [ours / theirs for ours, theirs in zip(rounds["ours"], rounds["script"], strict=True)]
    result = {
        "ours_per_second": round(statistics.median(rounds["ours"]), 1),
        "script_per_second": round(statistics.median(rounds["script"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "wanted": WANTED,
        "memory_after_epochs": memory,
    }
    grown = memory[-1] / memory[WARM - 1]
    print(f"{name}: ours {result['ours_per_second']:.0f} examples/s, the script {result['script_per_second']:.0f}: "
          f"{result['ratio']:.2f} times as fast (rounds {result['ratio_min']:.2f} to {result['ratio_max']:.2f}, "
          f"{WANTED:g} wanted); memory after {EPOCHS} epochs {grown:.3f} times that after {WARM} "
          f"({GROWTH:g} at most)")  # fmt: skip
    return result


class _Worker:
    """A process that trains a round each time it is asked."""

    def __init__(self, who: str, name: str, scratch: Path, *how: str) -> None:
        scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.paces", "--worker", who, name, str(scratch), *how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | (FASTER if who == "ours" else {}),
            text=True,
        )

    def round(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, f"the benchmark's process ended with the status {self._process.wait()}"
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        self._process.communicate()


def _ours(learner: Any, name: str, parameters: dict[str, Any], scratch: Path) -> Round:
    """What a training job does in an epoch of so many steps."""
    from modelhub.trainer import fit
    from modelhub.trainer.checkpoints import Place
    from modelhub.trainer.pace import Pace

    report = Reporter(os.open(os.devnull, os.O_WRONLY))
    training = fit.Fit(
        learner, learner.build(), parameters=parameters, folder=scratch, report=report, pace=Pace(1.0, 1)
    )  # fmt: skip
    epochs = itertools.count(1)

    def train() -> tuple[int, float]:
        training.place = Place(epoch=next(epochs))
        began = time.perf_counter()
        training.train_epoch()
        return int(training.place.sums["rows"]), time.perf_counter() - began

    return train


def _script(learner: Any, name: str, parameters: dict[str, Any], scratch: Path) -> Round:
    """What a tutorial does, with the same model and the same loss."""
    import keras
    import numpy as np
    import tensorflow as tf

    inner = learner.build()
    rows, whole = _padded(learner)
    count, steps = len(rows[0]), STEPS[name]

    class Script(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def train_step(self, data: Any) -> dict[str, Any]:
            batch = [whole[place] if whole[place] is not None else data[0][place] for place in range(len(whole))]
            with tf.GradientTape() as tape:
                loss, _ = learner.loss(self.inner, tuple(batch))
            variables = self.inner.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return {"loss": loss}

    model = Script()
    model.compile(optimizer=keras.optimizers.Adam(parameters["learning_rate"]))
    filled = tuple(array if array is not None else np.zeros(count) for array in rows)
    batches = tf.data.Dataset.from_tensor_slices(filled).shuffle(count, seed=0).batch(BATCH, drop_remainder=True)
    ends: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))

    def train() -> tuple[int, float]:
        # From the end of the first step to that of the last, so that what `fit` takes to begin is not held against it.
        ends.clear()
        model.fit(batches.repeat().take(steps + 1).map(lambda *batch: (batch,)), verbose=0, callbacks=[watch])
        return steps * BATCH, ends[-1] - ends[0]

    return train


def _padded(learner: Any) -> tuple[list[Any], list[Any]]:
    """All examples of an epoch, each part padded to the longest; and what has no rows, as it is in the first batch."""
    import numpy as np

    batches = [tuple(np.asarray(part) for part in batch) for batch in learner.batches(epoch=1)]
    parts: list[Any] = []
    whole: list[Any] = []
    for place in range(len(batches[0])):
        arrays = [batch[place] for batch in batches]
        if any(not array.ndim or len(array) != len(batch[0]) for array, batch in zip(arrays, batches, strict=True)):
            parts.append(None)
            whole.append(arrays[0])
            continue
        longest = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
        parts.append(
            np.concatenate(
                [
                    np.pad(
                        array,
                        [(0, 0), *((0, most - size) for most, size in zip(longest, array.shape[1:], strict=True))],
                    )
                    for array in arrays
                ]
            )
        )
        whole.append(None)
    return parts, whole


WHO = {"script": _script, "ours": _ours}


# The data


def _texts(folder: Path) -> dict[str, Any]:
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"name": str(n), "text": r["text"], "label": r["label"]} for n, r in enumerate(csv.DictReader(file))]
    splits = recipe_training.divided(rows, by="label", folder=folder)
    return {"kind": "text-classification", "labels": sorted({row["label"] for row in rows}), **splits}


def _table(folder: Path) -> dict[str, Any]:
    values = recipe_tables.table("breast_cancer")
    rows = [{"name": str(number), "values": row} for number, row in enumerate(values)]
    types = dict.fromkeys(values[0], "number") | {recipe_tables.TARGET: "integer"}
    splits = recipe_training.divided(rows, by=None, folder=folder)
    return {"kind": "table", "columns": [Column(name, kind) for name, kind in types.items()], **splits}


def _sounds(folder: Path) -> dict[str, Any]:
    items = recipe_speech.items_of("speech_commands_an4")
    return {"kind": "speech", "train": items[:-20], "validation": items[-20:]}


def _pairs(folder: Path) -> dict[str, Any]:
    with (DATA / "translation_en_es" / "pairs.tsv").open(encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in itertools.islice(file, PAIRS)]
    rows = [{"name": str(n), "source": source, "target": target} for n, (source, target) in enumerate(pairs)]
    return {"kind": "translation", **recipe_training.divided(rows, by=None, folder=folder)}


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "text-classifier": _texts,
    "tabular": _table,
    "speech-recognizer": _sounds,
    "translator": _pairs,
}


def _serve(who: str, name: str, scratch: Path, *, whole: bool) -> None:
    """The life of a worker: trains a round, or a whole epoch, for each line that comes, until there is none."""
    from modelhub import recipes
    from modelhub.recipes.base import checked
    from modelhub.trainer import fit

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What the libraries print is no answer.
    recipe = recipes.get(name)
    given: dict[str, Any] = {"target": recipe_tables.TARGET} if name == "tabular" else {}
    known = {parameter.name for parameter in recipe.parameters}
    limit = {"steps_per_epoch": STEPS[name]} if who == "ours" and not whole and "steps_per_epoch" in known else {}
    parameters = checked(recipe.parameters, given | limit)
    fit.be_repeatable(0)
    about: dict[str, Any] = {"labels": [], "columns": [], **TASKS[name](scratch)}
    task = Task(recipe=name, parameters=parameters, max_pixels=50_000_000, **about)
    learner: Any = recipe.learner(task)
    learner.read(folder=scratch, report=Reporter(os.open(os.devnull, os.O_WRONLY)))
    train = WHO[who](learner, name, parameters, scratch)
    for _ in sys.stdin:
        examples, seconds = train()
        told = {"examples": examples, "seconds": seconds, "bytes": psutil.Process().memory_info().rss}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _serve(sys.argv[2], sys.argv[3], Path(sys.argv[4]), whole="--whole" in sys.argv)
    else:
        main(*sys.argv[1:])
