"""How often a classifier is right, over all rows and class by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-7
TOP = (3, 5)


def classification(
    *, scores: NDArray[np.floating[Any]], truths: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Any]:
    """Metrics of a classifier that answers with its most likely class.

    `scores` is (rows, classes), each row the probabilities of the labels; `truths` is (rows,), the index of each true
    label. `loss` is the mean cross-entropy in nats. `top_k` has the share of rows whose truth is among the k likeliest,
    for k = 3 and 5 where there are more classes than that. The macro means are over the classes that have rows. A
    figure of nothing is null. Raises ValueError if the shapes do not fit one another.
    """
    _check_shapes(scores, truths, labels)
    answers = np.argmax(scores, axis=1) if len(scores) else np.zeros(0, np.int64)
    return {
        **_counted(answers, truths, labels),
        "loss": _mean(categorical_cross_entropy(scores=scores, truths=truths)),
        "top_k": {str(k): _mean(_ranks(scores, truths) < k) for k in TOP if k < len(labels)},
    }


def binary(
    *, scores: NDArray[np.floating[Any]], truths: NDArray[np.int64], labels: Sequence[str], threshold: float
) -> dict[str, Any]:
    """Metrics of a two-class model that answers `labels[1]` from a score of `threshold` on.

    `scores` and `truths` have one element a row: the probability of `labels[1]`, and the index of the true label. The
    confusion matrix has a row for each true label and a column for each answered one. A figure of nothing is null.
    """
    answers = (scores >= threshold).astype(np.int64)
    return {
        **_counted(answers, truths, labels),
        "loss": _mean(cross_entropy(scores=scores, truths=truths)),
    }


def two_columns(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The probability of a second class alone, (rows,) or (rows, 1), as the probabilities of both: (rows, 2)."""
    second = np.asarray(scores, np.float64).reshape(-1)
    return np.stack([1.0 - second, second], axis=1)


def cross_entropy(*, scores: NDArray[np.floating[Any]], truths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Binary cross-entropy of each row in nats, scores kept 1e-7 away from 0 and 1 as Keras does."""
    likely = np.clip(np.where(truths == 1, scores, 1 - scores).astype(np.float64), EPSILON, 1 - EPSILON)
    losses: NDArray[np.float64] = -np.log(likely)
    return losses


def categorical_cross_entropy(*, scores: NDArray[np.floating[Any]], truths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy of each row in nats: `scores` is (rows, classes), kept 1e-7 away from 0 and 1."""
    likely = scores[np.arange(len(truths)), truths].astype(np.float64)
    losses: NDArray[np.float64] = -np.log(np.clip(likely, EPSILON, 1 - EPSILON))
    return losses


def _counted(answers: NDArray[np.int64], truths: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrix, (truths, answers), 1)
    classes = {label: _class(matrix, index) for index, label in enumerate(labels)}
    there = [found for found in classes.values() if found["rows"]]
    return {
        "rows": len(truths),
        "accuracy": _mean(answers == truths),
        "macro": {
            name: _mean(np.array([found[name] or 0.0 for found in there])) for name in ("precision", "recall", "f1")
        },
        "confusion_matrix": {"labels": list(labels), "rows_are": "truth", "matrix": matrix.tolist()},
        "classes": classes,
    }


def _class(matrix: NDArray[np.int64], index: int) -> dict[str, Any]:
    right, answered, true = matrix[index, index], matrix[:, index].sum(), matrix[index].sum()
    return {
        "rows": int(true),
        "precision": _share(right, answered),
        "recall": _share(right, true),
        "f1": _share(2 * right, answered + true),
    }


def _ranks(scores: NDArray[np.floating[Any]], truths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes each row finds likelier than the true one; of equals the earlier is likelier, as in argmax."""
    of_truth = scores[np.arange(len(truths)), truths][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < truths[:, None]
    ranks: NDArray[np.int64] = ((scores > of_truth) | ((scores == of_truth) & earlier)).sum(axis=1)
    return ranks


def _check_shapes(scores: NDArray[np.floating[Any]], truths: NDArray[np.int64], labels: Sequence[str]) -> None:
    expected = (len(truths), len(labels))
    if scores.shape != expected:
        raise ValueError(f"The scores have the shape {scores.shape}; expected {expected}: (rows, classes).")


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
