"""A Keras model of one input and one output as files for serving: LiteRT as float32 and int8, and ONNX."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from modelhub.signatures import Signature
from modelhub.trainer import convert
from modelhub.trainer.convert import ENGINES, FP32, INT8, KERAS, ONNX
from modelhub.trainer.process import PARENT
from modelhub.trainer.task import Failure, Reporter

__all__ = ["ENGINES", "FP32", "INT8", "KERAS", "ONNX", "written"]


def written(model: Any, *, signature: Signature, folder: Path, report: Reporter) -> list[str]:
    """Writes the Keras file, without the optimizer's state, and the files for serving; gives their names."""
    model.save(folder / KERAS)
    (given,), (answered,) = signature.inputs, signature.outputs
    converters = [
        subprocess.Popen(
            [sys.executable, "-m", "modelhub.trainer.convert", str(folder), file, given.name, answered.name],
            env=os.environ | {PARENT: str(os.getpid())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for file in (FP32, INT8)
    ]
    onnx = _onnx_written(model, given.name, answered.name, path=folder / ONNX, report=report)
    for converter in converters:
        _, complaints = converter.communicate()
        if converter.returncode:
            for line in complaints.splitlines():
                report.log(line)
            raise Failure(
                f"The trained model could not be converted for serving (status {converter.returncode}). "
                "The fault is on our side; please tell us the job's id."
            )
    return [KERAS, FP32, INT8, *onnx]


def _onnx_written(model: Any, given: str, answered: str, *, path: Path, report: Reporter) -> list[str]:
    """Writes the ONNX file, if the model has a form in it; else it is served by the others."""
    try:
        convert.onnx_file(model, given, answered, path)
    except Exception as error:  # whatever a converter raises about a layer that it does not know
        report.log(f"No ONNX file: {type(error).__name__}: {error}"[:500])
        path.unlink(missing_ok=True)
        return []
    return [path.name]
