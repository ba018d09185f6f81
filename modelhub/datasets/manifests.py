"""The manifest of a data set: its items by split, each with the sha256 of its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from modelhub import storage
from modelhub.models import Dataset
from tenants.errors import Conflict

FORMAT = 2
# The first format knew pictures only: their class, height and width stood beside the name.
FORMAT_OF_PICTURES = 1

Fact = int | float | str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; its type is number, integer, category, boolean or text."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a data set: `sha256` is its stored file, `size` that file's bytes.

    A picture's target is its class, a recording's its transcript, with the speaker as its group. Kinds of rows have
    one item for each part of a split, of so many `rows` (a fact).
    """

    split: str
    name: str
    sha256: str
    size: int
    target: str = ""
    group: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict, hash=False)

    @property
    def rows(self) -> int:
        """How many rows of the data set the file holds: one, but for parts of rows."""
        return int(self.facts.get("rows", 1))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a data set holds; the same content gives the same bytes, whatever the order in the zip was."""

    kind: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    columns: tuple[Column, ...] = ()

    def of(self, split: str) -> tuple[Item, ...]:
        """The items of one split: `train` or `validation`."""
        return tuple(item for item in self.items if item.split == split)

    def rows(self, split: str | None = None) -> int:
        """How many rows there are to learn from, in one split or in all."""
        return sum(item.rows for item in self.items if split in (None, item.split))

    def as_bytes(self) -> bytes:
        document = {
            "format": FORMAT,
            "kind": self.kind,
            "classes": sorted(self.classes),
            "columns": [{"name": column.name, "type": column.type} for column in self.columns],
            "items": [_written(item) for item in sorted(self.items, key=lambda i: i.name)],
        }
        return orjson.dumps(document)


def load_manifest(dataset: Dataset) -> Manifest:
    """The manifest of a data set that has been checked; makes no query."""
    if dataset.erased_at is not None:
        raise Conflict(f"The data set {str(dataset)!r} was erased at {dataset.erased_at:%Y-%m-%d %H:%M} UTC.")
    if not dataset.manifest_sha256:
        raise Conflict(f"The data set {str(dataset)!r} has no content yet: its state is {dataset.state}.")
    return parse(storage.read(tenant_id=dataset.tenant_id, sha256=dataset.manifest_sha256))


def parse(data: bytes) -> Manifest:
    """The manifest that these bytes hold, in this format or the first one."""
    document = orjson.loads(data)
    if document["format"] not in (FORMAT, FORMAT_OF_PICTURES):
        raise ValueError(f"the manifest has the format {document['format']}; this code reads 1 and {FORMAT}")
    read = Item if document["format"] == FORMAT else _picture
    return Manifest(
        kind=document["kind"],
        classes=tuple(document["classes"]),
        items=tuple(read(**row) for row in document["items"]),
        columns=tuple(Column(**row) for row in document.get("columns", ())),
    )


def _picture(*, height: int, width: int, **row: Any) -> Item:
    return Item(target=row.pop("class"), facts={"height": height, "width": width}, **row)


def _written(item: Item) -> dict[str, Any]:
    return {
        "split": item.split,
        "name": item.name,
        "sha256": item.sha256,
        "size": item.size,
        "target": item.target,
        "group": item.group,
        "facts": dict(sorted(item.facts.items())),
    }
