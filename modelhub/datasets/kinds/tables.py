"""Tables: rows of columns with a type each. Which column is to be predicted is a question of the training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelhub.datasets import row_reports, rows
from modelhub.datasets.archives import shown
from modelhub.datasets.columns import COMMA, Guess, Summary, cell_of, value_of
from modelhub.datasets.kinds.base import ZIP_TYPES, BadItem, Open, Source, Work
from modelhub.datasets.manifests import Column, Item, Manifest
from modelhub.datasets.reports import Report, judge_counts
from modelhub.datasets.row_intake import Taken
from modelhub.datasets.spool import Spool

MAX_CONSTANT = 10


class Tables:
    """The kind table."""

    name = "table"
    content_types: tuple[str, ...] = ZIP_TYPES + rows.CONTENT_TYPES
    layout = "Expected CSV, TSV or JSON Lines whose first row names the columns."

    def read(self, source: Source, work: Work, report: Report) -> Manifest:
        return rows.read(source, work, report, reading=_Reading(work.columns), kind=self.name)

    def judge(self, manifest: Manifest, report: Report, *, open_file: Open, scratch: Path) -> None:
        row_reports.judge(manifest, report, tally=_Tally(manifest.columns), open_file=open_file, scratch=scratch)

    def preview(self, items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
        return rows.first_lines(items, open_file=open_file, limit=limit)


class _Reading:
    noun = "row"
    headerless: tuple[str, ...] = ()
    reserves_group = False

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._guesses: dict[str, Guess] = {}
        self._names: list[str] = []
        self._known: set[str] = set()
        self._decimal_comma = False
        self._types: dict[str, str] = {}

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(name, self._type(name)) for name in self._names)

    def begin(self, columns: Sequence[str], *, reserved: Sequence[str], decimal_comma: bool) -> None:
        names = [name for name in columns if name not in reserved]
        if self._names and set(names) != set(self._names):
            raise BadItem(f"It has other columns than the files before: {', '.join(map(shown, names[:10]))}.")
        if unknown := sorted(set(self._given) - set(names)):
            raise BadItem(f"It has no column {', '.join(map(shown, unknown))}, whose type was given.")
        self._known |= set(columns)
        self._decimal_comma = decimal_comma
        self._names = self._names or names
        self._guesses = self._guesses or {name: Guess() for name in names}

    def take(self, values: Mapping[str, Any]) -> Taken:
        if unknown := next((name for name in values if name not in self._known), None):
            raise BadItem(f"It has the column {shown(unknown)}, which the first row does not have.")
        cells = {name: self._cell(values.get(name), name) for name in self._names}
        for name, cell in cells.items():
            if name in self._given:
                value_of(cell, column=name, kind=self._given[name])
        if not any(cells.values()):
            raise BadItem("All its cells are empty.")
        for name, cell in cells.items():
            self._guesses[name].add(cell or "")
        return Taken({"values": cells})

    def _cell(self, value: Any, column: str) -> str | None:
        cell = cell_of(value, column=column)
        return cell.replace(",", ".") if cell and self._decimal_comma and COMMA.fullmatch(cell) else cell

    def line(self, values: dict[str, Any]) -> dict[str, Any]:
        self._types = self._types or {name: self._type(name) for name in self._names}
        cells = values["values"]
        return {"values": {name: value_of(cells[name], column=name, kind=kind) for name, kind in self._types.items()}}

    def _type(self, name: str) -> str:
        return self._given.get(name) or self._guesses[name].type


class _Tally:
    noun = "row"

    def __init__(self, columns: Sequence[Column]) -> None:
        self._summaries = {column.name: Summary(column.type) for column in columns}

    def add(self, values: Mapping[str, Any], *, split: str) -> Taken:
        for name, value in values["values"].items():
            self._summaries[name].add(value)
        return Taken({"values": values["values"]})

    def judge(self, report: Report, spool: Spool) -> None:
        report.content = {"columns": [{"name": name} | each.as_json() for name, each in self._summaries.items()]}
        judge_counts(report, noun="row")
        constant = [name for name, each in self._summaries.items() if each.constant]
        if constant:
            report.warn(
                "columns-that-never-vary",
                f"{len(constant)} of the columns never var{'y' if len(constant) > 1 else 'ies'}, and cannot be "
                f"predicted: {', '.join(map(shown, constant[:MAX_CONSTANT]))}{'…' * (len(constant) > MAX_CONSTANT)}.",
            )
        if len(constant) == len(self._summaries):
            report.reasons.append("No column of the table varies: there is nothing to be learned.")
