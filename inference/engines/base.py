"""What an engine is: it loads one version's file and runs rows through it."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modelhub.signatures import BYTES, TensorSpec
from tenants.errors import Unavailable

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]


class EngineGone(Unavailable):
    """What ran the model has ended; the version has to be loaded anew."""


class Engine(Protocol):
    """A loaded model. `run` may be called by several threads at once.

    `outside_bytes` is what it holds in a process of its own; `per_thread`, that it holds as much again for each thread
    that runs it at the same time. An engine that is `gone` answers no more.
    """

    name: str
    outside_bytes: int
    per_thread: bool
    gone: bool

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """Inputs by name, each of shape (rows, ...), to outputs by name, each of shape (rows, ...)."""
        ...

    def close(self) -> None:
        """Gives back what it holds; nobody runs it any more."""
        ...


def blank(spec: TensorSpec, rows: int | None) -> Tensor:
    """A tensor of zeros, or of empty texts, for a signature with so many rows; other dynamic dimensions are 1.

    Without `rows` there is no dimension of rows.
    """
    sizes = tuple(1 if size < 0 else size for size in spec.shape)
    shape = sizes if rows is None else (rows, *sizes[1:])
    return np.full(shape, b"", object) if spec.dtype == BYTES else np.zeros(shape, spec.numpy)
