"""What a recipe is: one task, with its preprocessing, model, loss, metrics and decoding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """A parameter of a recipe: `integer` and `number` have a range, `choice` has choices; None means left out."""

    name: str
    kind: str
    help: str
    default: Value
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.kind,
            "help": self.help,
            "default": self.default,
            "minimum": None if self.choices else self.minimum,
            "maximum": None if self.choices else self.maximum,
            "choices": list(self.choices),
        }

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.kind == "choice":
            words = f"one of {', '.join(self.choices)}"
        else:
            article = "an integer" if self.kind == "integer" else "a number"
            words = f"{article} from {self.minimum:g} to {self.maximum:g}"
        return words + (", or null" if self.default is None else "")

    def accepts(self, value: object) -> bool:
        """Whether the value is one that this parameter may have."""
        if value is None:
            return self.default is None
        if self.kind == "choice":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "integer" else int | float):
            return False
        return self.minimum <= value <= self.maximum


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
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


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
        """The media types of raw input that `prepare` reads."""
        ...

    @property
    def pixels(self) -> tuple[int, ...]:
        """The shape of one row of uint8 that `prepare` takes besides files; () if it takes files only."""
        ...

    def prepare(self, raw: bytes | Row, into: Row) -> None:
        """Writes raw input as it came into the model's input for one row; the same code as at training."""
        ...

    def is_quick(self, raw: bytes | Row) -> bool:
        """Whether to prepare this raw input surely takes no more than a fraction of a millisecond."""
        ...

    def answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        """The model's outputs for one row, in the language of the task."""
        ...


class Recipe(Protocol):
    """A task that a customer can train. `build` and `forward` import TensorFlow; nothing else here may."""

    name: str
    title: str
    dataset_kind: str
    parameters: tuple[Parameter, ...]
    row_shape: tuple[int, ...]
    scale: np.float32

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises Invalid if a data set with these classes cannot be learned by this recipe."""
        ...

    def row(self, raw: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
        """An item of a data set as it is kept while training: uint8 of `row_shape`; the model takes it × `scale`."""
        ...

    def interface(self, labels: Sequence[str]) -> Interface:
        """What a version that tells these labels apart takes and gives."""
        ...

    def served(self, manifest: Manifest) -> Served:
        """The serving side of a version of this recipe; imports no TensorFlow."""
        ...

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """The untrained Keras model, its weights drawn from Keras's seed."""
        ...

    def forward(self, model: Any, parameters: Mapping[str, Any]) -> Callable[[Any], Any]:
        """The model as a function for the training step: the same mathematics, arranged for its gradient's speed."""
        ...
