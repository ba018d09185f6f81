"""The rows of data sets that are stored as JSON Lines: texts and tables."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelhub.trainer.task import Item

Row = dict[str, Any]


def read(items: Iterable["Item"]) -> Iterator[Row]:
    """The objects of the items' lines, one after another, each with a `name`; in constant memory.

    Raises ValueError that names the file and line if one is no JSON object: the check of the data set let none through.
    """
    for item in items:
        with Path(item.file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _row(line, f"{item.name}:{number}")


def _row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place} is a JSON {type(row).__name__}; expected an object.")
    return {"name": place} | row
