"""Signatures: the tensors that a model takes and gives, in the field's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DYNAMIC = -1
# Strings: in numpy an array of objects, each of them bytes.
BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, dtype (numpy's name for it, or "bytes") and shape; -1 is a dimension of any size.

    The first dimension is that of the rows, unless the manifest says that the version is not `batched`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    # The dtype of the array that holds it.
    numpy: np.dtype[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numpy", np.dtype(object if self.dtype == BYTES else self.dtype))

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def as_json(self) -> dict[str, Any]:
        return {"inputs": [t.as_json() for t in self.inputs], "outputs": [t.as_json() for t in self.outputs]}


def from_json(document: Mapping[str, Any]) -> Signature:
    """The signature that a manifest holds."""
    return Signature(inputs=_specs(document["inputs"]), outputs=_specs(document["outputs"]))


def _specs(rows: list[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=r["name"], dtype=r["dtype"], shape=tuple(r["shape"])) for r in rows)
