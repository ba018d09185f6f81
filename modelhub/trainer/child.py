"""The process that does one training job: its folder holds the task, and will hold the result.

    python -m modelhub.trainer.child FOLDER PIPE

It knows no database and no secrets, reports over the pipe (`task.Reporter`), and dies with the trainer.
"""

import errno
import json
import os
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modelhub import priority, recipes
from modelhub.recipes.learning import Learner
from modelhub.trainer import task as tasks
from modelhub.trainer.process import die_with_parent
from modelhub.trainer.task import Failure, NothingToKeep, Reporter, Task

if TYPE_CHECKING:
    from modelhub.trainer.fit import Fit

OUT_OF_MEMORY = "The training ran out of memory. A smaller batch_size needs less, and so do fewer or smaller items."


def main(folder: Path, report: Reporter) -> NoReturn:
    """Runs the task; the exit status says whether there is a result."""
    try:
        result = run(tasks.read(folder), folder=folder, report=report)
        (folder / tasks.RESULT_FILE).write_text(json.dumps(result))
    except NothingToKeep:
        report.log("Stopped before there was anything to keep.")
        os._exit(1)
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            report.log(line)
        report.failed(in_words(error))
        os._exit(1)
    # At once: all is written, and tearing TensorFlow down takes seconds.
    os._exit(0)


def run(task: Task, *, folder: Path, report: Reporter) -> dict[str, Any]:
    """Read, train, evaluate, export; what the registry is to hold, the files being in the folder."""
    began = time.monotonic()
    report.progress("starting", 0, 1)
    from modelhub.trainer import convert, fit, warm
    from modelhub.trainer.pace import Pace

    fit.be_repeatable(task.parameters["seed"])
    learner = recipes.get(task.recipe).learner(task)
    start_seconds = time.monotonic() - began
    learner.read(folder=folder, report=report)
    # Once more: what reading drew is no concern of the weights.
    fit.be_repeatable(task.parameters["seed"])
    model = learner.build()
    ends = began + task.seconds if task.seconds else None
    training = _fit(
        task, learner, model, folder=folder, report=report, pace=Pace(start_seconds, task.rows("validation"), ends)
    )
    history = training.run()
    report.progress("evaluating", 0, 1)
    metrics = learner.evaluate(model, report=report)
    report.progress("converting", 0, 1)
    exported = learner.export(model, folder=folder, report=report)
    files = list(exported.files)
    if convert.KERAS not in files:
        files.append(warm.write(model, folder))
    return {
        "signature": exported.interface.signature.as_json(),
        "preprocessing": exported.interface.preprocessing,
        "labels": exported.interface.labels,
        "decision": exported.interface.decision,
        "metrics": metrics,
        "files": files,
        "serving": exported.serving,
        "conversion": exported.conversion,
        "epochs": len(history),
        "best_epoch": training.place.best_epoch,
        "monitor": asdict(learner.monitor),
        "ended_by": training.ended_by,
    }


def _fit(task: Task, learner: Learner, model: Any, *, folder: Path, report: Reporter, pace: Any) -> "Fit":
    """The training at its beginning: anew, with another version's weights, or where a checkpoint was."""
    from modelhub.trainer import checkpoints, fit, warm
    from modelhub.trainer.saving import Saver

    if task.warm_start and not task.checkpoint:
        warm.load(model, version=task.warm_start, files=task.warm_files)
        report.log(f"Begun with the weights of {task.warm_start}.")
    nbytes = sum(variable.value.dtype.size * int(variable.value.shape.num_elements()) for variable in model.variables)
    saver = Saver(
        folder,
        report=report,
        every_seconds=task.checkpoint_seconds,
        max_bytes=task.max_checkpoint_bytes,
        size=4 * nbytes,  # the weights, the best ones, and two moments of each
    )
    return fit.Fit(
        learner,
        model,
        parameters=task.parameters,
        folder=folder,
        report=report,
        pace=pace,
        saver=saver,
        checkpoint=checkpoints.read(Path(task.checkpoint)) if task.checkpoint else None,
    )


def in_words(error: Exception) -> str:
    """What a customer is told of an error; the log has the rest."""
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The trainer's disk is full. The fault is on our side; please try again later."
    return "The training broke off with a fault of ours; the log has the details. Please tell us the job's id."


if __name__ == "__main__":
    die_with_parent()
    priority.give_way()
    main(Path(sys.argv[1]), Reporter(int(sys.argv[2])))
