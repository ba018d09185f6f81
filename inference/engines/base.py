"""What an engine is: it loads one version's file and runs rows through it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from modelhub.signatures import BYTES, TensorSpec
from tenants.errors import Refusal, Unavailable

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]


class EngineGone(Unavailable):
    """What ran the model has ended; the version has to be loaded anew."""


class BadRows(Exception):
    """Rows that cannot be run, by their numbers in what was given to the engine, each with its refusal."""

    def __init__(self, refusals: Mapping[int, Refusal]) -> None:
        super().__init__(f"{len(refusals)} rows were refused")
        self.refusals = refusals


class Unwritten:
    """Rows of a model's one input, read but yet to be written as the model takes them, each by `write`.

    `shape` is that of all of them, (rows, ...).
    """

    def __init__(self, spec: TensorSpec, rows: list[Any], write: Callable[[Any, Tensor], None]) -> None:
        self.spec = spec
        self.shape = (len(rows), *spec.shape[1:])
        self._rows = rows
        self._write = write

    def write_into(self, tensor: Tensor) -> None:
        """Writes them into a tensor of their shape, once: each is let go when it is written."""
        while self._rows:
            self._write(self._rows.pop(), tensor[len(self._rows)])


class Engine(Protocol):
    """A loaded model. `run` may be called by several threads at once.

    `outside_bytes` is what it holds in a process of its own; `per_thread`, that it holds as much again for each thread
    that runs it at the same time. An engine that is `gone` answers no more.
    """

    name: str
    per_thread: bool

    @property
    def outside_bytes(self) -> int: ...

    @property
    def gone(self) -> bool: ...

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """Inputs by name, each of shape (rows, ...), to outputs by name, each of shape (rows, ...)."""
        ...

    def close(self) -> None:
        """Gives back what it holds; nobody runs it any more."""
        ...


class InPlace(Engine, Protocol):
    """An engine that has rows written where it reads them, which spares a copy of all that a batch takes."""

    def run_unwritten(self, rows: Unwritten) -> dict[str, Tensor]:
        """Rows of the one input to outputs by name, each of shape (rows, ...)."""
        ...


def run_unwritten(engine: Engine, rows: Unwritten) -> Tensors:
    """Runs rows that are written where the engine reads them if it is `InPlace`, else into a tensor of their own."""
    if hasattr(engine, "run_unwritten"):
        return cast(InPlace, engine).run_unwritten(rows)
    tensor = np.empty(rows.shape, rows.spec.numpy)
    rows.write_into(tensor)
    return engine.run({rows.spec.name: tensor})


def blank(spec: TensorSpec, rows: int | None, typical: Sequence[int] = ()) -> Tensor:
    """A tensor of zeros, or of empty texts, for a signature with so many rows.

    Without `rows` there is no dimension of rows. Other dynamic dimensions have the `typical` sizes in their order, and
    where those end, 1.
    """
    left = iter(typical)
    sizes = spec.shape if rows is None else spec.shape[1:]
    shape = tuple(next(left, 1) if size < 0 else size for size in sizes)
    if rows is not None:
        shape = (rows, *shape)
    return np.full(shape, b"", object) if spec.dtype == BYTES else np.zeros(shape, spec.numpy)
