"""What recipes have in common that needs no training: their parameters, and how their versions are spoken to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modelhub.signatures import Signature
from tenants.errors import FieldError, Invalid

Manifest = Mapping[str, Any]
Row = NDArray[Any]
Value = int | float | str | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a recipe: `integer` and `number` have a range, `choice` has choices, `boolean` is true or false.

    A `text` has from `minimum` to `maximum` characters. `defaults` is what holds instead of `default` where the
    parameter `architecture` has that value. Null may be given where it is a default, or where it is `nullable`.
    """

    name: str
    kind: str
    help: str
    default: Value
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    nullable: bool = False

    def as_json(self) -> dict[str, Any]:
        bounded = self.kind in ("integer", "number", "text")
        return {
            "name": self.name,
            "type": self.kind,
            "help": self.help,
            "default": self.default,
            "defaults": dict(self.defaults),
            "minimum": self.minimum if bounded else None,
            "maximum": self.maximum if bounded else None,
            "choices": list(self.choices),
        }

    @property
    def may_be_null(self) -> bool:
        """Whether it may be left open."""
        return self.nullable or self.default is None or None in self.defaults.values()

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        bounds = f"{self.minimum:g} to {self.maximum:g}"
        words = {
            "choice": f"one of {', '.join(self.choices)}",
            "boolean": "true or false",
            "text": f"a text of {bounds} characters",
            "integer": f"an integer from {bounds}",
            "number": f"a number from {bounds}",
        }[self.kind]
        return words + (", or null" if self.may_be_null else "")

    def accepts(self, value: object) -> bool:
        """Whether the value is one that this parameter may have."""
        if value is None:
            return self.may_be_null
        if self.kind == "choice":
            return value in self.choices
        if self.kind == "boolean":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str) and self.minimum <= len(value) <= self.maximum and "\0" not in value
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "integer" else int | float):
            return False
        return self.minimum <= value <= self.maximum

    def default_for(self, architecture: object) -> Value:
        """What holds where it is left out."""
        return self.defaults.get(str(architecture), self.default)


def checked(parameters: Sequence[Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """The given values with the defaults filled in; raises Invalid that names each wrong one and what is expected."""
    known = {p.name: p for p in parameters}
    wrong = [
        FieldError(f"parameters.{name}", f"There is no such parameter; expected some of {', '.join(known)}.")
        for name in given
        if name not in known
    ]
    wrong += [
        FieldError(f"parameters.{name}", f"Got {_shown(given[name])}; expected {parameter.expected}.")
        for name, parameter in known.items()
        if name in given and not parameter.accepts(given[name])
    ]
    if wrong:
        raise Invalid("; ".join(f"{e.field}: {e.message}" for e in wrong), errors=tuple(wrong))
    architecture = given.get("architecture", known["architecture"].default if "architecture" in known else None)
    return {
        name: given[name] if name in given else parameter.default_for(architecture) for name, parameter in known.items()
    }


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


@dataclass(frozen=True, slots=True)
class Interface:
    """How a version of a recipe is spoken to: what the manifest holds besides the files."""

    signature: Signature
    preprocessing: dict[str, Any]
    labels: list[str]
    decision: dict[str, Any]


class Served(Protocol):
    """What a recipe's version does around its model when it serves; made once when the version is loaded."""

    @property
    def content_types(self) -> tuple[str, ...]:
        """The media types of raw input that `read` takes."""
        ...

    @property
    def pixels(self) -> tuple[int, ...]:
        """The shape of one row of uint8 that `read` takes besides files; () if it takes files only."""
        ...

    def read(self, raw: bytes | Row) -> Row:
        """Raw input as it came, decoded, which is what takes long; the same code as at training."""
        ...

    def write(self, found: Row, into: Row) -> None:
        """Writes what was read into the model's input for one row."""
        ...

    def is_quick(self, raw: bytes | Row) -> bool:
        """Whether to read this raw input surely takes no more than a fraction of a millisecond."""
        ...

    def answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        """The model's outputs for one row, in the language of the task."""
        ...
