"""Which of the converted files may be served: each must answer as the trained model does."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from modelhub.recipes.base import Recipe
from modelhub.trainer.convert import FP32, INT8
from modelhub.trainer.pixels import Split
from modelhub.trainer.task import Failure

MAX_FP32_DIFFERENCE = 1e-3
MAX_ACCURACY_DROP = 0.01
MIN_AGREEMENT = 0.98
BATCH = 8


def scored(file: Path, split: Split, *, recipe: Recipe) -> NDArray[np.float32]:
    """The scores that a LiteRT file gives to the rows of a split."""
    run = Interpreter(model_path=str(file)).get_signature_runner()
    (name,), (answer,) = run.get_input_details(), run.get_output_details()
    found = [
        np.ravel(run(**{name: split.rows[start : start + BATCH] * recipe.scale})[answer])
        for start in range(0, len(split), BATCH)
    ]
    return np.concatenate(found)


def compared(
    scores: NDArray[np.float32], *, reference: NDArray[np.float32], truths: NDArray[np.int64], threshold: float
) -> dict[str, Any]:
    """How far a file's scores are from the trained model's."""
    answers, expected = scores >= threshold, reference >= threshold
    return {
        "max_difference": float(np.max(np.abs(scores - reference))),
        "accuracy": float(np.mean(answers == truths)),
        "accuracy_drop": float(np.mean(expected == truths) - np.mean(answers == truths)),
        "agreement": float(np.mean(answers == expected)),
    }


def decide(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The file to serve: int8 if it passes, else fp32. Raises Failure if fp32 is not the model that was trained."""
    exact = measured[FP32]["max_difference"]
    if not exact <= MAX_FP32_DIFFERENCE or math.isnan(exact):
        raise Failure(
            f"The LiteRT file does not agree with the trained model: a score differs by {exact:.3g}, "
            f"at most {MAX_FP32_DIFFERENCE:g} is allowed. The fault is on our side; please tell us the job's id."
        )
    small = measured[INT8]
    passes = small["accuracy_drop"] <= MAX_ACCURACY_DROP and small["agreement"] >= MIN_AGREEMENT
    return INT8 if passes else FP32
