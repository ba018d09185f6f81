"""Manifests with items left out: what a version has of the one before. (What is added: `checking.combined`.)"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import orjson

from modelhub import storage
from modelhub.datasets.archives import shown
from modelhub.datasets.manifests import Item, Manifest
from tenants.errors import FieldError, Invalid

MAX_NAMED = 5


def without(manifest: Manifest, names: Iterable[str], *, staging: storage.Staging) -> Manifest:
    """The manifest without the items of these names; of kinds of rows, without the rows: parts that change are staged.

    Raises Invalid if one is not there, or none would be left.
    """
    gone = set(names)
    removal = _Removal(gone, staging)
    kept = tuple(left for item in manifest.items for left in removal.of(item))
    if unknown := sorted(gone - removal.seen):
        raise _wrong(f"The data set has no item {', '.join(map(shown, unknown[:MAX_NAMED]))}{_more(unknown)}.")
    if not kept:
        raise _wrong(f"All {manifest.rows():,} items would be removed; expected that some stay.")
    targets = {item.target for item in kept}
    # Rows say their class themselves; of files the items do.
    classes = manifest.classes if _of_rows(kept[0]) else tuple(c for c in manifest.classes if c in targets)
    return replace(manifest, items=kept, classes=classes)


@dataclass(slots=True)
class _Removal:
    """What is left of items without some names, and which of the names were seen."""

    gone: set[str]
    staging: storage.Staging
    seen: set[str]

    def __init__(self, gone: set[str], staging: storage.Staging) -> None:
        self.gone, self.staging, self.seen = gone, staging, set()

    def of(self, item: Item) -> Iterator[Item]:
        if item.name in self.gone:
            self.seen.add(item.name)
        elif _of_rows(item):
            yield from self._part_of(item)
        else:
            yield item

    def _part_of(self, item: Item) -> Iterator[Item]:
        """A part without those rows; itself if it has none of them."""
        path = self.staging.folder / "part"
        rows = 0
        with (
            storage.open(tenant_id=self.staging.tenant_id, sha256=item.sha256) as content,
            path.open("wb") as copy,
        ):
            for line in content:
                name = orjson.loads(line)["name"]
                if name in self.gone:
                    self.seen.add(name)
                else:
                    copy.write(line)
                    rows += 1
        if rows == item.rows:
            yield item
        elif rows:
            blob = self.staging.add(path)
            yield replace(item, sha256=blob.sha256, size=blob.size, facts={**item.facts, "rows": rows})
        path.unlink()


def _of_rows(item: Item) -> bool:
    return "rows" in item.facts


def _more(names: list[str]) -> str:
    return f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""


def _wrong(detail: str) -> Invalid:
    return Invalid(detail, errors=(FieldError("remove", "Expected names of items of the data set, not of all."),))
