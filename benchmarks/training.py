"""Training pictures a second: the trainer's own loop beside the seed's script (ImageDataGenerator and model.fit).

Both run in this run, each in a process of its own, a round of the one after a round of the other, so that what else the
machine does falls on both. The first round of each is not counted: graphs are traced in it. A round of the trainer's
is an epoch; it goes on alone for some more, and from the seventh to the fourteenth its memory must not grow. Before, in
any of the first five, one more buffer of the size of the parameters (90 MB) comes, once. Writes
`benchmarks/results/training.json`. Takes about three minutes.
"""

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

from modelhub.trainer.process import FASTER

RESULTS = Path(__file__).parent / "results"
REAL = Path("../shared/data/cats_and_dogs")
BATCH = 32
STEPS = 20
ROUNDS = 6
MAX_SECONDS = 70.0
WANTED = 1.5
EPOCHS, WARM = 14, 7
GROWTH = 1.05

Round = Callable[[], float]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = _pictures(Path(scratch))
        print(f"pictures: {folder.name}, {sum(1 for _ in folder.glob('train/*/*'))} for training; batches of {BATCH}")
        workers = {name: _Worker(name, folder, Path(scratch) / name) for name in WORKERS}
        rounds: dict[str, list[float]] = {name: [] for name in WORKERS}
        memory: list[int] = []
        until = time.monotonic() + MAX_SECONDS
        for number in range(ROUNDS + 1):
            for name, worker in workers.items():
                told = worker.round()
                if number:
                    rounds[name].append(STEPS * BATCH / told["seconds"])
                if name == "ours":
                    memory.append(told["bytes"])
            if number > 1 and time.monotonic() > until:
                break
        workers.pop("seed").close()
        while len(memory) < EPOCHS:
            memory.append(workers["ours"].round()["bytes"])
        workers["ours"].close()
    result = _summed(rounds, pictures=folder.name, prepared=workers["ours"].prepared) | {"memory_after_epochs": memory}
    print(f"seed's script {result['seed_per_second']:.0f} pictures/s, trainer {result['ours_per_second']:.0f} "
          f"pictures/s: {result['ratio']:.2f} times as fast "
          f"(rounds {result['ratio_min']:.2f} to {result['ratio_max']:.2f}, {WANTED} wanted)")  # fmt: skip
    print(f"memory after {len(memory)} epochs {memory[-1] / memory[WARM - 1]:.3f} times that after {WARM} "
          f"({GROWTH} at most)")  # fmt: skip
    print(f"besides, once a job: decoding {result['decoded']} pictures took {result['decode_seconds']:.1f} s")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.json").write_text(json.dumps(result, indent=1))
    print(f"written to {RESULTS.name}/training.json")


def _summed(rounds: dict[str, list[float]], *, pictures: str, prepared: dict[str, float]) -> dict[str, Any]:
    ratios = [ours / seed for ours, seed in zip(rounds["ours"], rounds["seed"], strict=True)]
    return {
        "pictures": pictures,
        "batch": BATCH,
        "steps_a_round": STEPS,
        "rounds": len(ratios),
        "seed_per_second": round(statistics.median(rounds["seed"]), 1),
        "ours_per_second": round(statistics.median(rounds["ours"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "wanted": WANTED,
        "seed_rounds": [round(found, 1) for found in rounds["seed"]],
        "ours_rounds": [round(found, 1) for found in rounds["ours"]],
        **prepared,
    }


def _pictures(scratch: Path) -> Path:
    """The real photographs if they are there, else pictures that the project draws."""
    if REAL.is_dir():
        return REAL
    from aiaas_site import drawings

    folder = scratch / "drawn"
    for picture in drawings.drawings(train=400, validation=40):
        path = folder / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.data)
    return folder


class _Worker:
    """A process that trains a round each time it is asked."""

    def __init__(self, name: str, folder: Path, scratch: Path) -> None:
        scratch.mkdir()
        command = [sys.executable, "-m", "benchmarks.training", name, str(folder), str(scratch)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | (FASTER if name == "ours" else {}),
            text=True,
        )
        self.prepared: dict[str, float] = json.loads(self._answer())

    def round(self) -> dict[str, Any]:
        """The seconds that the round took, and the bytes of memory that the process has after it."""
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        return dict(json.loads(self._answer()))

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the benchmark's process ended with the status {self._process.wait()}"
        return line


def _seed(folder: Path, scratch: Path) -> tuple[Round, dict[str, float]]:
    """What the seed of this project did, as Keras 3 still has it."""
    import keras
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((150, 150, 3)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    pictures = ImageDataGenerator(rescale=1.0 / 255).flow_from_directory(
        str(folder / "train"), target_size=(150, 150), batch_size=BATCH, class_mode="binary"
    )

    ends: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))

    def train() -> float:
        # From the end of the first step to that of the last: what `fit` takes to begin and to end, up to two
        # seconds, is not held against it.
        ends.clear()
        model.fit(pictures, steps_per_epoch=STEPS + 1, epochs=1, verbose=0, callbacks=[watch])
        return ends[-1] - ends[0]

    return train, {}


def _ours(folder: Path, scratch: Path) -> tuple[Round, dict[str, float]]:
    """What a training job does: the same functions, in the same order."""
    from modelhub import recipes
    from modelhub.recipes.base import checked
    from modelhub.recipes.image.learner import PictureLearner
    from modelhub.trainer import fit
    from modelhub.trainer.checkpoints import Place
    from modelhub.trainer.pace import Pace
    from modelhub.trainer.task import Item, Reporter, Task

    recipe = recipes.get("image-classifier")
    parameters = checked(recipe.parameters, {"steps_per_epoch": STEPS})
    fit.be_repeatable(0)
    report = Reporter(os.open(os.devnull, os.O_WRONLY))
    classes = sorted(path.name for path in (folder / "train").iterdir())
    items = [
        Item(file=str(file), name=file.name, target=name)
        for name in classes
        for file in sorted((folder / "train" / name).iterdir())
    ]
    few = [item for name in classes for item in [one for one in items if one.target == name][:1]]
    task = Task(
        recipe=recipe.name, parameters=parameters, kind=recipe.dataset_kind, labels=classes, columns=[], train=items,
        validation=few, max_pixels=50_000_000,
    )  # fmt: skip
    learner = PictureLearner(task)
    started = time.perf_counter()
    learner.read(folder=scratch, report=report)
    prepared = {"decoded": len(learner.train), "decode_seconds": round(time.perf_counter() - started, 2)}
    model = learner.build()
    training = fit.Fit(
        learner, model, parameters=parameters, folder=scratch, report=report, pace=Pace(1.0, len(few))
    )  # fmt: skip
    epochs = itertools.count(1)

    def train() -> float:
        training.place = Place(epoch=next(epochs))
        started = time.perf_counter()
        training.train_epoch()
        return time.perf_counter() - started

    return train, prepared


WORKERS = {"seed": _seed, "ours": _ours}


def _serve(name: str, folder: Path, scratch: Path) -> None:
    """The life of a worker: trains a round for each line that comes, until there is none."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What the libraries print is no answer.
    train, prepared = WORKERS[name](folder, scratch)
    print(json.dumps(prepared), file=answers, flush=True)
    for _ in sys.stdin:
        told = {"seconds": train(), "bytes": psutil.Process().memory_info().rss}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
