"""How good a model is on pictures that it did not learn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-7


def binary(
    *, scores: NDArray[np.float32], truths: NDArray[np.int64], labels: Sequence[str], threshold: float
) -> dict[str, Any]:
    """Metrics of a two-class model.

    `scores` and `truths` have one element a row: the probability of `labels[1]`, and the index of the true label. The
    confusion matrix has a row for each true label and a column for each answered one. A precision or recall of nothing
    is null.
    """
    answers = (scores >= threshold).astype(np.int64)
    return _counted(answers, truths, cross_entropy(scores=scores, truths=truths), labels)


def several(*, scores: NDArray[np.float32], truths: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Metrics of a model of any number of classes, as `binary` has them.

    `scores` is (rows, labels), the probability of each label; the answer is the first of the largest.
    """
    answers = np.argmax(scores, axis=1).astype(np.int64)
    return _counted(answers, truths, categorical_cross_entropy(scores=scores, truths=truths), labels)


def _counted(
    answers: NDArray[np.int64], truths: NDArray[np.int64], losses: NDArray[np.float64], labels: Sequence[str]
) -> dict[str, Any]:
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrix, (truths, answers), 1)
    return {
        "rows": len(truths),
        "accuracy": float(np.mean(answers == truths)),
        "loss": float(np.mean(losses)),
        "confusion_matrix": {"labels": list(labels), "rows_are": "truth", "matrix": matrix.tolist()},
        "classes": {
            label: {
                "rows": int(matrix[index].sum()),
                "precision": _share(matrix[index, index], matrix[:, index].sum()),
                "recall": _share(matrix[index, index], matrix[index].sum()),
            }
            for index, label in enumerate(labels)
        },
    }


def cross_entropy(*, scores: NDArray[np.float32], truths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Binary cross-entropy of each row in nats, scores kept 1e-7 away from 0 and 1 as Keras does."""
    likely = np.clip(np.where(truths == 1, scores, 1 - scores).astype(np.float64), EPSILON, 1 - EPSILON)
    losses: NDArray[np.float64] = -np.log(likely)
    return losses


def categorical_cross_entropy(*, scores: NDArray[np.float32], truths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy of each row in nats: `scores` is (rows, classes), kept 1e-7 away from 0 and 1."""
    likely = scores[np.arange(len(truths)), truths].astype(np.float64)
    losses: NDArray[np.float64] = -np.log(np.clip(likely, EPSILON, 1 - EPSILON))
    return losses


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
