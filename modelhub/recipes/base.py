"""What a recipe is: one task, with its preprocessing, model, loss, metrics and decoding."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Manifest = Mapping[str, Any]
Row = NDArray[Any]


class Served(Protocol):
    """What a recipe's version does around its model when it serves; made once when the version is loaded."""

    content_types: tuple[str, ...]

    def prepare(self, raw: bytes) -> Row:
        """Raw input as it came to the model's input for one row (no batch dimension); the same code as at training."""
        ...

    def answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        """The model's outputs for one row, in the language of the task."""
        ...


class Recipe(Protocol):
    """A task that a customer can train."""

    name: str
    title: str

    def served(self, manifest: Manifest) -> Served:
        """The serving side of a version of this recipe; imports no TensorFlow."""
        ...
