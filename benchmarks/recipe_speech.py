"""How good the speech recognizer becomes with its defaults on real recordings, and in how many minutes.

    python -m benchmarks.recipe_speech digits|digits-speaker|an4 [name=value …] [--folder FOLDER]

Trains as a job does, from ../shared/data, and prints the word error rate on the sounds held out: a tenth of the spoken
digits at random, one speaker of them, or the speakers of every tenth recording of AN4. `benchmarks.recipe_serving`
measures what `--folder` keeps through HTTP.
"""

import argparse
import csv
import faulthandler
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines.onnx import Onnx
from modelhub import signatures
from modelhub.recipes.base import checked
from modelhub.recipes.speech import SpeechRecognizer
from modelhub.trainer import child
from modelhub.trainer.task import RESULT_FILE, Item, Reporter, Task

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
VALIDATION = 0.1
LEFT_OUT = "george"


def at_random(items: list[Item]) -> Callable[[Item], bool]:
    """A tenth of each word's recordings."""
    drawn = random.Random(0)
    by_text: dict[str, list[str]] = {}
    for item in items:
        by_text.setdefault(item.target, []).append(item.name)
    names = {name for text in by_text.values() for name in drawn.sample(text, round(VALIDATION * len(text)))}
    return lambda item: item.name in names


def of_one_speaker(items: list[Item]) -> Callable[[Item], bool]:
    return lambda item: item.group == LEFT_OUT


def of_some_speakers(items: list[Item]) -> Callable[[Item], bool]:
    """All recordings of a tenth of the speakers."""
    speakers = sorted({item.group for item in items})
    drawn = set(random.Random(0).sample(speakers, round(VALIDATION * len(speakers))))
    return lambda item: item.group in drawn


SETS = {
    "digits": ("spoken_digits", at_random),
    "digits-speaker": ("spoken_digits", of_one_speaker),
    "an4": ("speech_commands_an4", of_some_speakers),
}


def items_of(folder: str) -> list[Item]:
    """The recordings of a set, in the order of its transcripts."""
    with (DATA / folder / "transcripts.csv").open(newline="") as file:
        return [
            Item(
                file=str(DATA / folder / row["path"]), name=row["path"], target=row["transcript"], group=row["speaker"]
            )
            for row in csv.DictReader(file)
        ]


class Spoken(Reporter):
    """Prints what a trainer would keep."""

    def __init__(self) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY))

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if value is not None), flush=True)

    def log(self, text: str) -> None:
        print(text, flush=True)


def main(name: str, given: Mapping[str, Any], kept: Path | None) -> None:
    folder, split = SETS[name]
    items = items_of(folder)
    held_out = split(items)
    task = Task(
        recipe=SpeechRecognizer.name,
        parameters=checked(SpeechRecognizer.parameters, given),
        kind=SpeechRecognizer.dataset_kind,
        labels=[],
        columns=[],
        train=[item for item in items if not held_out(item)],
        validation=[item for item in items if held_out(item)],
        max_pixels=1,
    )
    with tempfile.TemporaryDirectory() as scratch:
        train(name, task, kept or Path(scratch))


def train(name: str, task: Task, folder: Path) -> None:
    """Trains, and prints what was reached; the version's files are in the folder then."""
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    result = child.run(task, folder=folder, report=Spoken())
    minutes = (time.monotonic() - began) / 60
    (folder / RESULT_FILE).write_text(json.dumps(result | {"recipe": task.recipe}))
    (folder / "validation.json").write_text(json.dumps([item.file for item in task.validation]))
    metrics = result["metrics"]
    for error in metrics.pop("errors"):
        print(f"{error['name']}: {error['truth']!r} was heard as {error['answer']!r} ({error['confidence']})")
    print(json.dumps(metrics, indent=1))
    print(f"{name}: word error rate {metrics['word_error_rate']:.2%} in {minutes:.1f} minutes")
    print(f"{name}: real-time factor {real_time_factor(task, result, folder):.4f}, a file at a time")


def real_time_factor(task: Task, result: Mapping[str, Any], folder: Path) -> float:
    """Seconds from file to text for each second of sound, over the validation split, on one thread."""
    signature = signatures.from_json(result["serving"]["tensors"])
    engine = Onnx(path=folder / result["serving"]["file"], signature=signature)
    pipeline = SpeechRecognizer().pipeline(result, lambda name: folder / name)
    needed = said = 0.0
    for example in SpeechRecognizer().examples(task.validation):
        audio = np.empty(1, object)
        audio[0] = example.inputs["audio"]
        began = time.perf_counter()
        outputs = pipeline.decode(engine.run(pipeline.encode({"audio": audio})))
        needed += time.perf_counter() - began
        said += float(outputs["seconds"][0])
    return needed / said


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="Trains the speech recognizer on real recordings.")
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--folder", type=Path, help="where to keep the version's files; else nowhere")
    parser.add_argument("parameters", nargs="*", help="NAME=VALUE, those that are not the defaults")
    return parser.parse_args()


if __name__ == "__main__":
    faulthandler.enable()  # a library that crashes says where
    asked = _arguments()
    main(
        asked.name, {one.partition("=")[0]: json.loads(one.partition("=")[2]) for one in asked.parameters}, asked.folder
    )
