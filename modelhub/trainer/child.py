"""The process that does one training job: its folder holds the task, and will hold the result.

    python -m modelhub.trainer.child FOLDER PIPE

It knows no database and no secrets, reports over the pipe (`task.Reporter`), and dies with the trainer.
"""

import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelhub import recipes
from modelhub.recipes.base import Recipe
from modelhub.trainer import task as tasks
from modelhub.trainer.process import PARENT, die_with_parent
from modelhub.trainer.task import Failure, Reporter, Task

if TYPE_CHECKING:
    from modelhub.trainer.pixels import Split

KERAS = "model.keras"
OUT_OF_MEMORY = "The training ran out of memory. Fewer or smaller pictures need less."


def main(folder: Path, report: Reporter) -> int:
    """Runs the task; the exit status says whether there is a result."""
    try:
        result = run(tasks.read(folder), folder=folder, report=report)
        (folder / tasks.RESULT_FILE).write_text(json.dumps(result))
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            report.log(line)
        report.failed(_in_words(error))
        return 1
    return 0


def run(task: Task, *, folder: Path, report: Reporter) -> dict[str, Any]:
    """Decode, train, evaluate, convert, compare; what the registry is to hold, the files being in the folder."""
    report.progress("starting", 0, 1)
    from modelhub import evaluation
    from modelhub.trainer import fit

    fit.be_repeatable(task.parameters["seed"])
    recipe = recipes.get(task.recipe)
    interface = recipe.interface(task.labels)
    train, validation = (_split(task, name, recipe=recipe, folder=folder, report=report) for name in SPLITS)
    model = recipe.build(task.parameters)
    fit.fit(model, recipe=recipe, parameters=task.parameters, train=train, validation=validation, report=report)
    report.progress("evaluating", 0, len(validation))
    scores, truths = fit.scored(model, validation, recipe=recipe)
    threshold = interface.decision["threshold"]
    metrics = evaluation.binary(scores=scores, truths=truths, labels=task.labels, threshold=threshold)
    report.progress("converting", 0, 1)
    files = _written(model, recipe=recipe, interface=interface, folder=folder, report=report)
    report.progress("checking", 0, len(validation))
    conversion = _compared(folder, validation, recipe=recipe, reference=scores, threshold=threshold)
    return {"labels": task.labels, "metrics": metrics, "files": files, "conversion": conversion}


SPLITS = ("train", "validation")


def _split(task: Task, name: str, *, recipe: Recipe, folder: Path, report: Reporter) -> "Split":
    from modelhub.trainer import pixels

    return pixels.decoded(
        getattr(task, name),
        split=name,
        classes=task.labels,
        recipe=recipe,
        max_pixels=task.max_pixels,
        file=folder / f"{name}.uint8",
        report=report,
    )


def _written(model: Any, *, recipe: Recipe, interface: Any, folder: Path, report: Reporter) -> list[str]:
    """Writes the Keras file, without the optimizer's state, and the LiteRT files; gives their names."""
    import keras
    import tensorflow as tf

    from modelhub.trainer import convert

    model.save(folder / KERAS)
    (given,), (answered,) = interface.signature.inputs, interface.signature.outputs
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        lambda rows: {answered.name: model(rows, training=False)},
        input_signature=[tf.TensorSpec((None, *recipe.row_shape), tf.float32, name=given.name)],
    )
    archive.write_out(folder / convert.EXPORTED, verbose=False)
    done = subprocess.run(
        [sys.executable, "-m", "modelhub.trainer.convert", str(folder)],
        env=os.environ | {PARENT: str(os.getpid())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        for line in done.stderr.splitlines():
            report.log(line)
        raise Failure(
            f"The trained model could not be converted for serving (status {done.returncode}). "
            "The fault is on our side; please tell us the job's id."
        )
    shutil.rmtree(folder / convert.EXPORTED)
    return [KERAS, convert.FP32, convert.INT8]


def _compared(folder: Path, validation: "Split", *, recipe: Recipe, reference: Any, threshold: float) -> dict[str, Any]:
    """What the gate measured, and which file it lets through."""
    from modelhub.trainer import convert, gate

    measured = {
        name: gate.compared(
            gate.scored(folder / name, validation, recipe=recipe),
            reference=reference,
            truths=validation.labels,
            threshold=threshold,
        )
        for name in (convert.FP32, convert.INT8)
    }
    return {"rows": len(validation), "served": gate.decide(measured), "files": measured}


def _in_words(error: Exception) -> str:
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno == 28:
        return "The trainer's disk is full. The fault is on our side; please try again later."
    return "The training broke off with a fault of ours; the log has the details. Please tell us the job's id."


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main(Path(sys.argv[1]), Reporter(int(sys.argv[2]))))
