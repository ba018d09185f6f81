"""Which of the converted files may be served: each must answer as the trained model does."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub import runners
from modelhub.signatures import DYNAMIC, Signature, TensorSpec
from modelhub.trainer.convert import ENGINES, FP32, INT8, ONNX
from modelhub.trainer.task import Failure

MAX_FP32_DIFFERENCE = 1e-3
MAX_ACCURACY_DROP = 0.01
MIN_AGREEMENT = 0.98
BATCH = 8
# A file of one input and one output, whatever it calls them.
LONE = Signature((TensorSpec("rows", "float32", (DYNAMIC,)),), (TensorSpec("scores", "float32", (DYNAMIC,)),))


Rows = NDArray[np.float32]
# Scores, (rows, 1) or (rows, classes), to the indices of the labels that they speak for.
Decided = Callable[[Rows], NDArray[np.int64]]


def scored(file: Path, rows: NDArray[Any], *, scale: np.float32) -> Rows:
    """The scores that a converted file gives to rows × scale, as float32 of the model's shape."""
    run = runners.ENGINES[ENGINES[file.name]](file, LONE, os.cpu_count() or 1)
    found = [run({"rows": rows[start : start + BATCH] * scale})["scores"] for start in range(0, len(rows), BATCH)]
    return np.concatenate(found)


def compared(scores: Rows, *, reference: Rows, truths: NDArray[np.int64], decided: Decided) -> dict[str, Any]:
    """How far a file's scores are from the trained model's."""
    answers, expected = decided(scores), decided(reference)
    return {
        "max_difference": float(np.max(np.abs(scores - reference))),
        "accuracy": float(np.mean(answers == truths)),
        "accuracy_drop": float(np.mean(expected == truths) - np.mean(answers == truths)),
        "agreement": float(np.mean(answers == expected)),
    }


def passing(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The files that may serve, the smallest first. Raises Failure if fp32 is not the model that was trained."""
    exact = measured[FP32]["max_difference"]
    if not exact <= MAX_FP32_DIFFERENCE or math.isnan(exact):
        raise Failure(
            f"The LiteRT file does not agree with the trained model: a score differs by {exact:.3g}, "
            f"at most {MAX_FP32_DIFFERENCE:g} is allowed. The fault is on our side; please tell us the job's id."
        )
    small = measured[INT8]
    found = [INT8] if small["accuracy_drop"] <= MAX_ACCURACY_DROP and small["agreement"] >= MIN_AGREEMENT else []
    found.append(FP32)
    if ONNX in measured and measured[ONNX]["max_difference"] <= MAX_FP32_DIFFERENCE:
        found.append(ONNX)
    return found


def serving(passed: list[str]) -> dict[str, Any]:
    """What a manifest says of serving: the first is the default, and each host chooses among all by measuring."""
    candidates = [{"engine": ENGINES[file], "file": file} for file in passed]
    return {**candidates[0], "candidates": candidates}
