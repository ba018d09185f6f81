"""A report as a table: what the operator's pages, files and commands show, each in its own way."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from tenants.reports import csv_cells


class Writable(Protocol):
    """What takes lines of text: a file, a command's output, an answer."""

    def write(self, text: str, /) -> object: ...


Cell = str | int | Decimal | date | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under the names of their columns; `totals` are rows, too, one for each currency."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    totals: Sequence[tuple[Cell, ...]] = ()


FORMATS = ("table", "csv", "json")


def write(table: Table, *, form: str, into: Writable) -> None:
    """Writes the table as aligned text, as CSV without totals, or as JSON."""
    {"table": _write_text, "csv": write_csv, "json": _write_json}[form](table, into)


def write_csv(table: Table, into: Writable) -> None:
    """A header and the rows; the totals are left to whoever sums the column."""
    writer = csv.writer(into)
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([csv_cells.cell(plain(value)) for value in row])


def plain(value: Cell) -> Cell:
    """The value as it is written everywhere: a decimal number without zeros beyond its cents."""
    if isinstance(value, Decimal):
        short = value.normalize()
        return short if short.as_tuple().exponent < -2 else value.quantize(Decimal("0.01"))  # type: ignore[operator]
    return value


def _write_json(table: Table, into: Writable) -> None:
    def objects(rows: Iterable[tuple[Cell, ...]]) -> list[dict[str, str | int | None]]:
        return [dict(zip(table.columns, map(_as_json, row), strict=True)) for row in rows]

    into.write(json.dumps({"rows": objects(table.rows), "totals": objects(table.totals)}, indent=1) + "\n")


def _write_text(table: Table, into: Writable) -> None:
    lines = [[_as_text(value) for value in row] for row in (*table.rows, *table.totals)]
    names = [name.replace("_", " ") for name in table.columns]
    widths = [max(map(len, column)) for column in zip(names, *lines, strict=True)]
    numbers = [any(isinstance(row[place], int | Decimal) for row in table.rows) for place in range(len(names))]
    for line in (names, ["-" * width for width in widths], *lines):
        cells = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numbers, strict=True)
        )
        into.write("  ".join(cells).rstrip() + "\n")


def _as_json(value: Cell) -> str | int | None:
    return value if isinstance(value, str | int | None) else _as_text(value)


def _as_text(value: Cell) -> str:
    shown = plain(value)
    if shown is None:
        return ""
    if isinstance(shown, datetime | date):
        return shown.isoformat()
    return f"{shown:f}" if isinstance(shown, Decimal) else str(shown)
