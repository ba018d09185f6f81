"""The columns of a table as the tensors of a model, the same at training and serving."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub.signatures import BYTES, DYNAMIC, TensorSpec
from tenants.errors import Invalid

# Numbers of a category of a column, counted from the column's own beginning.
MISSING, UNKNOWN, RESERVED = 0, 1, 2
MOST_CATEGORIES = 1000
# A category that stands once in the training rows teaches the unknown one.
FEWEST = 2
# Numbers this many standard deviations away make the column one of magnitudes, which is taken by its logarithm; of
# small numbers that is no more than the numbers themselves.
FAR, LARGE = 10.0, 100.0

# What varies less is taken for one value: float32 ends there.
NARROWEST = 1e-30

Numbers = NDArray[np.float32]
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """Numbers, or true and false as 1 and 0, of this mean and standard deviation; or their logarithms, if `logged`.

    The logarithm is sign(value) × log(1 + |value|). `example` is a usual value.
    """

    name: str
    mean: float
    spread: float
    logged: bool
    example: float


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """Categories by their numbers, from `begin` on: one for a missing value, one for an unknown, then the `values`."""

    name: str
    begin: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns the model takes, and in which order."""

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]

    @property
    def category_numbers(self) -> int:
        """How many numbers all categories of all columns have together."""
        return sum(RESERVED + len(column.values) for column in self.categories)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """A signature's inputs, one a column: float32 for numbers, of which NaN is missing; BYTES for categories."""
        return tuple(TensorSpec(column.name, "float32", (DYNAMIC,)) for column in self.numbers) + tuple(
            TensorSpec(column.name, BYTES, (DYNAMIC,)) for column in self.categories
        )

    def columns_of(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
        """The inputs of rows as the data set has them: values by column, None being missing."""
        columns: dict[str, NDArray[Any]] = {
            column.name: single([number(row.get(column.name)) for row in rows]).astype(np.float32)
            for column in self.numbers
        }
        for column in self.categories:
            texts = np.empty(len(rows), object)
            texts[:] = [category(row.get(column.name)).encode() for row in rows]
            columns[column.name] = texts
        return columns

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Encoder:
    """Columns as the model's tensors."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._numbers = [_numbered(column) for column in layout.categories]

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The signature's inputs as `numbers` float32 (rows, columns) and `categories` int32 (rows, columns).

        One that has no columns is left out. What is not finite is missing, as is the empty category. Raises Invalid for
        categories that are not UTF-8.
        """
        layout, tensors = self._layout, {}
        if layout.numbers:
            numbers = np.stack([np.asarray(inputs[c.name], np.float32).reshape(-1) for c in layout.numbers], axis=1)
            tensors["numbers"] = np.where(np.isfinite(numbers), numbers, np.float32(np.nan))
        if layout.categories:
            found = [
                _category_numbers(inputs[column.name].reshape(-1), column, numbers)
                for column, numbers in zip(layout.categories, self._numbers, strict=True)
            ]
            tensors["categories"] = np.stack(found, axis=1)
        return tensors


def from_json(document: Mapping[str, Any]) -> Layout:
    """The layout that `as_json` gave."""
    return Layout(
        numbers=tuple(NumberColumn(**column) for column in document["numbers"]),
        categories=tuple(
            CategoryColumn(**{**column, "values": tuple(column["values"])}) for column in document["categories"]
        ),
    )


def number(value: Any) -> float:
    """A value of a column of numbers or booleans; NaN if it is missing."""
    return math.nan if value is None or isinstance(value, str) else float(value)


def single(values: Sequence[float]) -> NDArray[np.float64]:
    """Numbers as float32 has them: what is beyond it is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32).astype(np.float64)


def category(value: Any) -> str:
    """A value of a column of categories; empty if it is missing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


class Survey:
    """What the training rows' columns hold, seen a row at a time."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = dict(types)
        self._numbers = {name: array("d") for name, kind in types.items() if kind in NUMERIC}
        self._categories: dict[str, Counter[str]] = {name: Counter() for name, kind in types.items() if kind in NAMED}
        self.rows = 0

    def see(self, values: Mapping[str, Any]) -> None:
        self.rows += 1
        for name, seen in self._numbers.items():
            seen.append(number(values.get(name)))
        for name, counts in self._categories.items():
            counts[category(values.get(name))] += 1

    def layout(self, warn: Warn) -> Layout:
        """The columns that a model can learn from; `warn` is told of each that is left out, and why."""
        for name, kind in self._types.items():
            if kind not in NUMERIC | NAMED:
                warn(f"The column {name} is left out: it is free text.")
        numbers = [
            column
            for name, seen in self._numbers.items()
            if (column := _number_column(name, single(seen), self._types[name], warn))
        ]
        categories: list[CategoryColumn] = []
        begin = 0
        for name, counts in self._categories.items():
            if values := _category_values(name, counts, warn):
                categories.append(CategoryColumn(name, begin, values))
                begin += RESERVED + len(values)
        return Layout(tuple(numbers), tuple(categories))


NUMERIC = {"number", "integer", "boolean"}
NAMED = {"category"}


def _number_column(name: str, seen: NDArray[np.float64], kind: str, warn: Warn) -> NumberColumn | None:
    there = seen[np.isfinite(seen)]
    if not len(there) or (np.all(there == there[0]) and len(there) == len(seen)):
        warn(f"The column {name} is left out: {'no row has a value' if not len(there) else 'it never varies'}.")
        return None
    if kind == "integer" and _numbers_rows(name, there):
        warn(f"The column {name} is left out: its numbers name the rows.")
        return None
    farthest = np.max(np.abs(there - there.mean()))
    logged = bool(farthest > FAR * there.std() and farthest > LARGE)
    values = np.sign(there) * np.log1p(np.abs(there)) if logged else there
    spread = float(values.std())
    return NumberColumn(
        name, float(values.mean()), spread if spread > NARROWEST else 1.0, logged, float(np.median(there))
    )


def _numbers_rows(name: str, there: NDArray[np.float64]) -> bool:
    """Whether integers that all differ are an id: by the column's name, or because they count the rows."""
    ordered = np.unique(there)
    if len(ordered) < len(there) or len(there) < 10:
        return False
    words = name.casefold().replace("-", "_").replace(" ", "_").split("_")
    return bool({"id", "index", "nr", "no"} & {words[0], words[-1]}) or bool(np.all(np.diff(ordered) == 1))


def _category_values(name: str, counts: Counter[str], warn: Warn) -> tuple[str, ...]:
    """The values that get a number, in the order of the alphabet; none if the column is left out."""
    there = Counter({value: times for value, times in counts.items() if value})
    if not there or len(counts) == 1:
        warn(f"The column {name} is left out: {'no row has a value' if not there else 'it never varies'}.")
        return ()
    often = [value for value, times in there.most_common(MOST_CATEGORIES) if times >= FEWEST]
    if not often or len(there) > max(20, 0.5 * there.total()):
        warn(f"The column {name} is left out: {len(there)} of its {there.total()} values differ, as names or ids do.")
        return ()
    return tuple(sorted(often))


def _numbered(column: CategoryColumn) -> dict[bytes | None, int]:
    numbers: dict[bytes | None, int] = {
        value.encode(): column.begin + RESERVED + place for place, value in enumerate(column.values)
    }
    return numbers | {b"": column.begin + MISSING, None: column.begin + MISSING}


def _category_numbers(
    texts: NDArray[Any], column: CategoryColumn, numbers: Mapping[bytes | None, int]
) -> NDArray[np.int32]:
    for text in texts:
        if text not in numbers:
            _check_text(text, column.name)
    return np.array([numbers.get(text, column.begin + UNKNOWN) for text in texts], np.int32)


def _check_text(text: bytes, column: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"The value of {column} is not UTF-8: {error}.") from error
