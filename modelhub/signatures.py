"""Signatures: the tensors that a model takes and gives, in the field's own words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DYNAMIC = -1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, dtype (numpy's name for it) and shape; -1 is a dimension of any size, the first one rows."""

    name: str
    dtype: str
    shape: tuple[int, ...]

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
