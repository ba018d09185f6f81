"""The manifest of a data set: its items by split and class, each with the sha256 of its file."""

from dataclasses import asdict, dataclass

import orjson

from modelhub import storage
from modelhub.models import Dataset
from tenants.errors import Conflict

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Item:
    """One picture: `sha256` is its stored file, `size` that file's bytes, height and width are in pixels, upright."""

    split: str
    # The wire's word for it is `class`, which Python keeps for itself.
    class_name: str
    name: str
    sha256: str
    size: int
    height: int
    width: int

    @property
    def target(self) -> str:
        """What a model is to answer."""
        return self.class_name

    @property
    def group(self) -> str:
        return ""

    @property
    def facts(self) -> dict[str, int | float | str]:
        return {"height": self.height, "width": self.width}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: str


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

    def as_bytes(self) -> bytes:
        items = [_written(item) for item in sorted(self.items, key=lambda i: i.name)]
        return orjson.dumps({"format": FORMAT, "kind": self.kind, "classes": sorted(self.classes), "items": items})


def load_manifest(dataset: Dataset) -> Manifest:
    """The manifest of a data set that has been checked; makes no query."""
    if not dataset.manifest_sha256:
        raise Conflict(f"The data set {dataset.name!r} has no content yet: its state is {dataset.state}.")
    return parse(storage.read(tenant_id=dataset.tenant_id, sha256=dataset.manifest_sha256))


def parse(data: bytes) -> Manifest:
    """The manifest that these bytes hold."""
    document = orjson.loads(data)
    if document["format"] != FORMAT:
        raise ValueError(f"the manifest has the format {document['format']}; this code reads {FORMAT}")
    items = tuple(Item(class_name=row.pop("class"), **row) for row in document["items"])
    return Manifest(kind=document["kind"], classes=tuple(document["classes"]), items=items)


def _written(item: Item) -> dict[str, str | int]:
    row = asdict(item)
    row["class"] = row.pop("class_name")
    return row
