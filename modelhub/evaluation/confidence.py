"""Whether a classifier's probabilities mean what they say, and from which score on its answer should be yes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
STEPS = tuple(round(0.05 * step, 2) for step in range(1, 20))


def calibration(*, scores: NDArray[np.floating[Any]], truths: NDArray[np.int64], bins: int = BINS) -> dict[str, Any]:
    """How confident a classifier is of its answers, and how often they are right.

    `scores` is (rows, classes) of probabilities, `truths` (rows,) of indices. Rows are put into `bins` bins of equal
    width by the probability of their likeliest class; `ece`, the expected calibration error, is the mean distance
    between confidence and accuracy over all rows, as in Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    sure = np.clip(np.max(scores, axis=1), 0.0, 1.0).astype(np.float64) if len(scores) else np.zeros(0)
    right = np.argmax(scores, axis=1) == truths if len(scores) else np.zeros(0, bool)
    places = np.minimum((sure * bins).astype(np.int64), bins - 1)
    found = [_bin(place, bins, sure[places == place], right[places == place]) for place in range(bins)]
    filled = [one for one in found if one["rows"]]
    distances = [one["rows"] * abs(one["confidence"] - one["accuracy"]) for one in filled]
    return {"rows": len(truths), "ece": sum(distances) / len(truths) if len(truths) else None, "bins": found}


def thresholds(
    *, scores: NDArray[np.floating[Any]], truths: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Any]:
    """What each threshold makes of a two-class model.

    `scores` is (rows,): the probability of `labels[1]`, which is answered from the threshold on; `truths` is (rows,)
    of indices. The table has thresholds from 0.05 to 0.95; `best` is the one of the highest F1 among all that tell the
    rows apart, the lowest of equals. A figure of nothing is null.
    """
    positive = np.asarray(truths) == 1
    table = [_at(step, scores, positive) for step in STEPS]
    return {"positive": labels[1], "table": table, "best": _best(scores, positive)}


def _bin(place: int, bins: int, sure: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "from": place / bins,
        "to": (place + 1) / bins,
        "rows": len(sure),
        "confidence": float(np.mean(sure)) if len(sure) else None,
        "accuracy": float(np.mean(right)) if len(right) else None,
    }


def _at(threshold: float, scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> dict[str, Any]:
    yes = scores >= threshold
    right, answered, true = int((yes & positive).sum()), int(yes.sum()), int(positive.sum())
    return {
        "threshold": float(threshold),
        "precision": right / answered if answered else None,
        "recall": right / true if true else None,
        "f1": 2 * right / (answered + true) if answered + true else None,
        "accuracy": float(np.mean(yes == positive)) if len(positive) else None,
    }


def _best(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> dict[str, Any] | None:
    """By one pass over the sorted scores: with the k highest answered yes, F1 is 2 × right / (k + true)."""
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(positive[order])
    f1 = 2 * right / (np.arange(1, len(ranked) + 1) + positive.sum())
    # Equal scores are answered alike, so that only the last of them is a threshold.
    last = np.append(ranked[:-1] != ranked[1:], True)
    f1 = np.where(last, f1, -1.0)
    place = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return _at(float(ranked[place]), scores, positive)
