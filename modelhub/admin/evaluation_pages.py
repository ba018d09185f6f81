"""How the admin shows what an evaluation found: figures as tables, one a question."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from modelhub.admin.tables import NOTHING, Table
from modelhub.models import Evaluation

DIGITS = 4


def figures(evaluation: Evaluation) -> SafeString | str:
    """The metrics of all rows, of each class and each slice, and what each threshold would give."""
    if evaluation.result is None:
        return NOTHING
    context = {"rows": evaluation.result["rows"], "tables": list(tables(evaluation.result))}
    return render_to_string("admin/modelhub/evaluation/figures.html", context)


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """An evaluation's result as tables; a part that it has not is none."""
    metrics = result["metrics"]
    yield _table("All rows", "", {"": metrics})
    if classes := metrics.get("classes"):
        yield _table("Each class", "class", classes)
    for name, sliced in result["slices"].items():
        left_out = f", the largest {len(sliced['groups'])}" if sliced["groups_left_out"] else ""
        yield _table(f"By {name}{left_out}", name, sliced["groups"])
    if thresholds := result["thresholds"]:
        best = thresholds["best"]["threshold"]
        rows = {f"{row['threshold']:g}": row for row in thresholds["table"]}
        yield _table(f"Thresholds of {thresholds['positive']!r}, best at {best:.{DIGITS}g}", "from", rows)


def _table(title: str, first: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each name, a column for each plain figure that any of them has."""
    columns = list(
        dict.fromkeys(
            name for row in rows.values() for name, value in row.items() if _is_plain(value) and name != "threshold"
        )
    )
    header = [first, *columns] if first else columns
    return Table(title, [name.replace("_", " ") for name in header], list(_rows(first, columns, rows)))


def _rows(first: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Any]]:
    for name, row in rows.items():
        cells = [_shown(row.get(column)) for column in columns]
        yield [name, *cells] if first else cells


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    return "" if value is None else value
