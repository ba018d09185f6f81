"""Rows left out of a data set of rows: the parts that have them are written anew, the others are shared."""

from collections.abc import Collection
from dataclasses import replace

import orjson

from modelhub import storage
from modelhub.datasets.archives import shown
from modelhub.datasets.manifests import Item, Manifest
from tenants.errors import FieldError, Invalid

MAX_NAMED = 5


def without(manifest: Manifest, names: Collection[str], *, staging: storage.Staging) -> Manifest:
    """The manifest without the rows of these names (`train.csv:17`); new parts are staged.

    Raises Invalid if a name is not there, or no row would be left.
    """
    gone = set(names)
    found: set[str] = set()
    kept: list[Item] = []
    for item in manifest.items:
        part = _rewritten(item, gone, found, staging)
        kept += [part] if part.rows else []
    if missing := sorted(gone - found):
        more = f" and {len(missing) - MAX_NAMED:,} more" if len(missing) > MAX_NAMED else ""
        raise _wrong(f"The data set has no row {', '.join(map(shown, missing[:MAX_NAMED]))}{more}.")
    if not kept:
        raise _wrong(f"All {manifest.rows():,} rows would be removed; expected that some stay.")
    return replace(manifest, items=tuple(kept))


def _rewritten(item: Item, gone: set[str], found: set[str], staging: storage.Staging) -> Item:
    """The part without these rows: itself if it has none of them. Adds the names that it had to `found`."""
    draft = staging.folder / "part"
    rows = 0
    with storage.open(tenant_id=staging.tenant_id, sha256=item.sha256) as content, draft.open("wb") as kept:
        for line in content:
            if (name := orjson.loads(line)["name"]) in gone:
                found.add(name)
                continue
            kept.write(line)
            rows += 1
    try:
        if rows == item.rows:
            return item
        blob = staging.add(draft)
        return replace(item, sha256=blob.sha256, size=blob.size, facts={**item.facts, "rows": rows})
    finally:
        draft.unlink()


def _wrong(detail: str) -> Invalid:
    return Invalid(detail, errors=(FieldError("remove", "Expected names of rows of the data set, not of all."),))
