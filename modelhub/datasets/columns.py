"""The columns of tables: which type their cells have, and what their values are like."""

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from modelhub.datasets import tallies
from modelhub.datasets.archives import shown
from modelhub.datasets.kinds.base import BadItem

NUMBER, INTEGER, CATEGORY, BOOLEAN, TEXT = TYPES = ("number", "integer", "category", "boolean", "text")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
# A leading zero says that it is a name: a postcode, a telephone number.
WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
# How numbers are written where a semicolon stands between the fields.
COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
ZEROS = re.compile(r"[+-]?0[0-9]")
MAX_CELL = 20_000
MAX_VALUES = 1_000
FEW_VALUES = 50
ROWS_A_VALUE = 10
# So much of a column may be no number although the column is one; those rows are left out.
STRAY_SHARE = 0.01

Cell = float | int | bool | str | None


@dataclass(slots=True)
class Guess:
    """What the cells of a column look like, one after the other, until its type is asked for."""

    cells: int = 0
    missing: int = 0
    whole: int = 0
    decimal: int = 0
    boolean: int = 0
    values: set[bytes] = field(default_factory=set)
    spaces: int = 0

    def add(self, cell: str) -> None:
        """Counts a cell as it stands in the file, stripped."""
        self.cells += 1
        if is_missing(cell):
            self.missing += 1
            return
        self.whole += bool(WHOLE.fullmatch(cell))
        self.decimal += bool(DECIMAL.fullmatch(cell)) and not ZEROS.match(cell)
        self.boolean += cell.casefold() in BOOLEANS
        self.spaces += " " in cell
        if len(self.values) <= MAX_VALUES:
            self.values.add(hashlib.blake2b(cell.encode(), digest_size=8).digest())

    @property
    def type(self) -> str:
        """The type that all cells have, but for a few stray ones."""
        there = self.cells - self.missing
        if not there:
            return CATEGORY
        enough = there - int(there * STRAY_SHARE)
        if self.boolean == there:
            return BOOLEAN
        if self.whole >= enough and self.whole == self.decimal:
            return INTEGER
        if self.decimal >= enough:
            return NUMBER
        few = len(self.values) <= FEW_VALUES or len(self.values) <= min(MAX_VALUES, there / ROWS_A_VALUE)
        return CATEGORY if few and (there > FEW_VALUES or self.spaces < there) else TEXT


@dataclass(slots=True)
class Summary:
    """What the values of a column are like."""

    type: str
    missing: int = 0
    numbers: tallies.Numbers = field(default_factory=tallies.Numbers)
    lengths: tallies.Lengths = field(default_factory=tallies.Lengths)
    values: Counter[Any] = field(default_factory=Counter)
    full: bool = False

    def add(self, value: Cell) -> None:
        if value is None:
            self.missing += 1
            return
        if value in self.values or len(self.values) < MAX_VALUES:
            self.values[value] += 1
        else:
            self.full = True
        if isinstance(value, str):
            self.lengths.add(len(value))
        elif not isinstance(value, bool):
            self.numbers.add(value)

    @property
    def constant(self) -> bool:
        """Whether it has the same value wherever it has one."""
        return len(self.values) < 2

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": self.type,
            "missing": self.missing,
            "distinct": len(self.values),
            "distinct_at_least": self.full,
        }
        if self.type in (NUMBER, INTEGER):
            return document | self.numbers.as_json()
        if self.type == TEXT:
            return document | {"characters": self.lengths.as_json()}
        return document | {"most_frequent": tallies.most_frequent(self.values)}


def is_missing(cell: str) -> bool:
    """Whether the cell says that there is no value."""
    return cell.casefold() in MISSING


def value_of(cell: Any, *, column: str, kind: str) -> Cell:
    """The cell as a value of this type; none where it is missing. Raises BadItem where it is no such value."""
    if cell is None or (isinstance(cell, str) and is_missing(cell)):
        return None
    value = _value(cell, kind)
    if value is None:
        raise BadItem(f"Its {shown(column)} is {shown(str(cell))}; expected {_expected(kind)}.")
    return value


def cell_of(value: Any, *, column: str) -> str | None:
    """A value of a file as text: a cell of a CSV file, or a plain value of JSON. Raises BadItem."""
    match value:
        case None:
            return None
        case str():
            cell = value.strip()
        case bool():
            cell = "true" if value else "false"
        case int() | float():
            cell = repr(value)
        case _:
            raise BadItem(f"Its {shown(column)} is {shown(str(value))}; expected a text, a number or true or false.")
    if len(cell) > MAX_CELL:
        raise BadItem(f"Its {shown(column)} has {len(cell):,} characters; the limit is {MAX_CELL:,}.")
    if "\0" in cell:
        raise BadItem(f"Its {shown(column)} has a NUL character.")
    return cell


def _value(cell: str, kind: str) -> Cell:
    match kind:
        case "boolean":
            return BOOLEANS.get(cell.casefold(), {"1": True, "0": False}.get(cell))
        case "integer":
            return int(cell) if WHOLE.fullmatch(cell) else None
        case "number":
            number = float(cell) if DECIMAL.fullmatch(cell) else math.nan
            return number if math.isfinite(number) else None
    return cell


def _expected(kind: str) -> str:
    return {
        "boolean": "true or false",
        "integer": "a whole number of at most 18 digits",
        "number": "a number, with a point before its decimals",
    }.get(kind, "a text")
