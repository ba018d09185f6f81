"""What an engine is: it loads one version's file and runs rows through it."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]


class Engine(Protocol):
    """A loaded model. `run` may be called by several threads at once; each has an interpreter of its own."""

    name: str

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """Inputs by name, each of shape (rows, ...), to outputs by name, each of shape (rows, ...)."""
        ...


def zeros(shape: tuple[int, ...], dtype: str, rows: int) -> Tensor:
    """A tensor of zeros for a signature's shape with so many rows; other dynamic dimensions are 1."""
    return np.zeros((rows, *(1 if size < 0 else size for size in shape[1:])), dtype=dtype)
