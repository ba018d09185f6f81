"""Whether an exported file answers as the trained model does, for recipes whose engine's tensors are their own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub.trainer.task import Failure

# How far an answer may be from the trained model's: sums in another order.
MAX_DIFFERENCE = 1e-3


def check(*, found: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]], file: str) -> dict[str, Any]:
    """What the manifest says of a conversion, of a file's answers and the trained model's for the validation split.

    Both are of the same shape, in units of which 0.001 is nothing. Raises Failure if an answer differs by more.
    """
    difference = float(np.max(np.abs(found.astype(np.float64) - expected), initial=0.0))
    # Not `>`: a difference that is no number is no agreement.
    if not difference <= MAX_DIFFERENCE:
        raise Failure(
            f"The file for serving does not agree with the trained model: {file} differs by {difference:.3g}; "
            f"at most {MAX_DIFFERENCE} is let through. The fault is on our side; please tell us the job's id."
        )
    return {
        "rows": len(found),
        "served": file,
        "passed": [file],
        "files": {file: {"max_difference": difference}},
    }
