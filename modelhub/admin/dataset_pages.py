"""How the admin shows the report of a data set, and a look into it."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from modelhub.admin.tables import NOTHING, Table
from modelhub.datasets import previews
from modelhub.models import Dataset
from tenants.errors import Refusal

ROWS = 8
MAX_SHOWN = 200
BAR_HEIGHT = 40


def report(dataset: Dataset) -> SafeString | str:
    """The report of the last check, as tables."""
    if dataset.report is None:
        return NOTHING
    found = dataset.report
    classes = sorted({name for counts in found["splits"].values() for name in counts})
    counts = [[split, *(found["splits"][split][name] for name in classes)] for split in found["splits"]]
    if not classes:
        counts = [[split, count] for split, count in found.get("counts", {}).items()]
    context = {
        "report": found,
        "counts": Table("Items", ["split", *(classes or ["items"])], counts),
        "duplicates": _duplicates(found.get("duplicates", {})),
        "tables": list(tables(found.get("content", {}))),
    }
    return render_to_string("admin/modelhub/dataset/report.html", context)


def preview(dataset: Dataset) -> SafeString | str:
    """The first rows of each split, with small pictures of pictures and sounds."""
    try:
        document = previews.preview(dataset=dataset, limit=ROWS)
        shown = [
            {"split": split, "items": [_item(dataset, row) for row in rows]}
            for split, rows in document["splits"].items()
        ]
    except Refusal:
        return NOTHING
    except OSError as error:
        return f"The content cannot be read: {error.strerror or type(error).__name__}."
    columns = [column["name"] for column in document["columns"]]
    return render_to_string("admin/modelhub/dataset/preview.html", {"splits": shown, "columns": columns})


def tables(content: Mapping[str, Any], *, title: str = "") -> Iterator[Table]:
    """The parts of a report's content: figures side by side, lists of figures, and histograms as bars."""
    plain = {name: value for name, value in content.items() if not isinstance(value, dict | list)}
    if plain:
        yield Table(title or "Figures", list(plain), [list(plain.values())], _bars(content.get("histogram", {})))
    for name, value in content.items():
        inner = f"{title}, {name}" if title else name
        match value:
            case dict() if name != "histogram":
                yield from tables(value, title=inner)
            case [dict(), *_]:
                header = list(dict.fromkeys(key for each in value for key in each))
                yield Table(inner, header, [[_plain(each.get(key, "")) for key in header] for each in value])


def _bars(histogram: Mapping[str, Any]) -> list[dict[str, float]]:
    """The places and heights of a histogram's bars, in 200 by 40 pixels."""
    counts: list[int] = histogram.get("counts", [])
    scale = BAR_HEIGHT / max([*counts, 1])
    return [
        {"x": place * 10, "y": BAR_HEIGHT - count * scale, "height": count * scale}
        for place, count in enumerate(counts)
    ]


def _duplicates(found: Mapping[str, Any]) -> Table:
    rows = [
        [name, each["contents"], each.get("across_splits", ""), "; ".join(map(" = ".join, each["examples"][:3]))]
        for name, each in found.items()
    ]
    return Table("Duplicates", ["alike", "contents", "in both splits", "examples"], rows)


def _item(dataset: Dataset, row: dict[str, Any]) -> dict[str, Any]:
    cells = row.get("values", {name: value for name, value in row.items() if name not in ("sha256", "facts", "name")})
    picture = previews.picture(dataset=dataset, sha256=row["sha256"]) if "sha256" in row else None
    return {
        "name": row["name"],
        "picture": _address(picture) if picture else "",
        "cells": [_cut(value) for value in cells.values()],
        "facts": ", ".join(f"{name} {value}" for name, value in row.get("facts", {}).items() if name != "hash"),
    }


def _address(picture: previews.Picture) -> str:
    return f"data:{picture.content_type};base64,{base64.b64encode(picture.data).decode()}"


def _plain(value: Any) -> Any:
    """A cell: lists of values and their counts, and figures, as one line."""
    if isinstance(value, list):
        return ", ".join(f"{each['value']} ({each['count']})" for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return value


def _cut(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
