"""The process that does one training job: its folder holds the task, and will hold the result.

    python -m modelhub.trainer.child FOLDER PIPE

It knows no database and no secrets, reports over the pipe (`task.Reporter`), and dies with the trainer.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modelhub import recipes
from modelhub.recipes.base import Interface, Recipe
from modelhub.trainer import task as tasks
from modelhub.trainer.deadline import Deadline
from modelhub.trainer.process import PARENT, die_with_parent
from modelhub.trainer.task import Failure, Reporter, Task

if TYPE_CHECKING:
    from modelhub.trainer.pixels import Split

OUT_OF_MEMORY = "The training ran out of memory. Fewer or smaller pictures need less."


def main(folder: Path, report: Reporter) -> NoReturn:
    """Runs the task; the exit status says whether there is a result."""
    try:
        result = run(tasks.read(folder), folder=folder, report=report)
        (folder / tasks.RESULT_FILE).write_text(json.dumps(result))
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            report.log(line)
        report.failed(_in_words(error))
        os._exit(1)
    # At once: all is written, and tearing TensorFlow down takes seconds.
    os._exit(0)


def run(task: Task, *, folder: Path, report: Reporter) -> dict[str, Any]:
    """Decode, train, evaluate, convert, compare; what the registry is to hold, the files being in the folder."""
    began = time.monotonic()
    report.progress("starting", 0, 1)
    from modelhub import evaluation
    from modelhub.trainer import fit

    fit.be_repeatable(task.parameters["seed"])
    recipe = recipes.get(task.recipe)
    interface = recipe.interface(task.labels)
    start_seconds = time.monotonic() - began
    train, validation = (_split(task, name, recipe=recipe, folder=folder, report=report) for name in SPLITS)
    model = recipe.build(task.parameters)
    deadline = Deadline(began + task.seconds, start_seconds, len(validation)) if task.seconds else None
    history = fit.fit(
        model, recipe=recipe, parameters=task.parameters, train=train, validation=validation, report=report,
        deadline=deadline,
    )  # fmt: skip
    report.progress("evaluating", 0, len(validation))
    scores, truths = fit.scored(model, validation, recipe=recipe)
    threshold = interface.decision["threshold"]
    metrics = evaluation.binary(scores=scores, truths=truths, labels=task.labels, threshold=threshold)
    report.progress("converting", 0, 1)
    files = _written(model, interface=interface, folder=folder, report=report)
    report.progress("checking", 0, len(validation))
    from modelhub.trainer import gate

    conversion = _compared(folder, files, validation, recipe=recipe, reference=scores, threshold=threshold)
    serving = gate.serving(conversion["passed"])
    return {
        "labels": task.labels,
        "metrics": metrics,
        "files": files,
        "serving": serving,
        "conversion": conversion,
        "stopped_in_epoch": len(history) if deadline and deadline.passed else None,
    }


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


def _written(model: Any, *, interface: Interface, folder: Path, report: Reporter) -> list[str]:
    """Writes the Keras file, without the optimizer's state, and the files for serving; gives their names."""
    from modelhub.trainer import convert

    model.save(folder / convert.KERAS)
    (given,), (answered,) = interface.signature.inputs, interface.signature.outputs
    converters = [
        subprocess.Popen(
            [sys.executable, "-m", "modelhub.trainer.convert", str(folder), file, given.name, answered.name],
            env=os.environ | {PARENT: str(os.getpid())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for file in (convert.FP32, convert.INT8)
    ]
    onnx = _onnx_written(model, interface=interface, path=folder / convert.ONNX, report=report)
    for converter in converters:
        _, complaints = converter.communicate()
        if converter.returncode:
            for line in complaints.splitlines():
                report.log(line)
            raise Failure(
                f"The trained model could not be converted for serving (status {converter.returncode}). "
                "The fault is on our side; please tell us the job's id."
            )
    return [convert.KERAS, convert.FP32, convert.INT8, *onnx]


def _onnx_written(model: Any, *, interface: Interface, path: Path, report: Reporter) -> list[str]:
    """Writes the ONNX file, if the model has a form in it; else it is served by the others."""
    from modelhub.trainer import convert

    (given,), (answered,) = interface.signature.inputs, interface.signature.outputs
    try:
        convert.onnx_file(model, given.name, answered.name, path)
    except Exception as error:  # whatever a converter raises about a layer that it does not know
        report.log(f"No ONNX file: {type(error).__name__}: {error}"[:500])
        path.unlink(missing_ok=True)
        return []
    return [path.name]


def _compared(
    folder: Path, files: list[str], validation: "Split", *, recipe: Recipe, reference: Any, threshold: float
) -> dict[str, Any]:
    """What the gate measured, and which files it lets through."""
    from modelhub.trainer import convert, gate

    measured = {
        name: gate.compared(
            gate.scored(folder / name, validation, recipe=recipe),
            reference=reference,
            truths=validation.labels,
            threshold=threshold,
        )
        for name in files
        if name in convert.ENGINES
    }
    passed = gate.passing(measured)
    return {"rows": len(validation), "served": passed[0], "passed": passed, "files": measured}


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
    main(Path(sys.argv[1]), Reporter(int(sys.argv[2])))
