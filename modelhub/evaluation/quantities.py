"""How far predicted quantities are from the true ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def regression(predictions: NDArray[np.floating[Any]], truths: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Metrics of predictions, (rows,), in the unit of the truths, (rows,).

    `r2` is 1 - squared error / squared distance of the truths from their mean; null where the truths do not vary, as
    each of them is where there are no rows. Raises ValueError if the shapes differ.
    """
    told, true = (np.asarray(values, np.float64).reshape(-1) for values in (predictions, truths))
    if told.shape != true.shape:
        raise ValueError(f"There are {len(told)} predictions for {len(true)} truths.")
    if not len(true):
        return {"rows": 0, "mae": None, "rmse": None, "r2": None, "bias": None}
    errors = told - true
    spread = float(np.sum((true - true.mean()) ** 2))
    return {
        "rows": len(true),
        "mae": float(np.mean(np.abs(errors))),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "r2": 1.0 - float(np.sum(errors**2)) / spread if spread else None,
        "bias": float(np.mean(errors)),
    }
