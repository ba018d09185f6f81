"""The target of a table: which classes it has, or how its values are spread."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelhub.recipes.tabular.columns import category, number, single
from modelhub.recipes.tabular.recipe import AUTO, CLASSIFICATION, REGRESSION
from modelhub.trainer.task import Failure

# An integer of at most so many values is a class, if it is not said what it is.
FEW = 10
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be told: one of the labels, or, where there are none, a value of this mean and spread."""

    name: str
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def number(self, value: Any) -> float | None:
        """A row's target as it is learned: the number of its label, or its value; None if it is neither."""
        if self.labels:
            return float(self.labels.index(category(value))) if category(value) in self.labels else None
        found = float(single([number(value)])[0])
        return found if np.isfinite(found) else None


def learn(name: str, kind: str, values: Sequence[Any], *, task: str) -> Target:
    """The target, of a column of this type, with the values of the training rows, None being missing.

    Raises Failure if there is nothing to learn from them.
    """
    there = [value for value in values if value not in (None, "")]
    if not there:
        raise Failure(f"No row to learn from has a value of the target {name}.")
    counts = Counter(category(value) for value in there)
    if len(counts) == 1:
        raise Failure(
            f"The target {name} never varies: it is {next(iter(counts))[:60]!r} in each of the {len(there)} rows to "
            "learn from. There is nothing to tell apart."
        )
    if _is_quantity(kind, len(counts), task):
        return _quantity(name, there)
    if len(counts) > MOST_CLASSES or len(counts) == len(there) > FEW:
        raise Failure(
            f"The target {name} has {len(counts)} different values in {len(there)} rows; a classification takes at "
            f"most {MOST_CLASSES}, of which some stand in several rows. For a quantity choose the task {REGRESSION}."
        )
    return Target(name, labels=tuple(sorted(counts, key=_by_size if kind in ("number", "integer") else str)))


def _is_quantity(kind: str, different: int, task: str) -> bool:
    if task != AUTO:
        return task != CLASSIFICATION
    return kind == "number" or (kind == "integer" and different > FEW)


def _quantity(name: str, there: Sequence[Any]) -> Target:
    values = single([number(value) for value in there])
    values = values[np.isfinite(values)]
    if not len(values) or not values.std():
        raise Failure(f"The target {name} has {len(values)} values that are numbers, and they do not vary.")
    return Target(name, mean=float(values.mean()), spread=float(values.std()))


def _by_size(label: str) -> tuple[float, str]:
    return float(label), label
