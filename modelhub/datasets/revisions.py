"""Manifests with items added and left out: what a version has of the one before."""

from collections.abc import Iterable
from dataclasses import replace

from modelhub.datasets.archives import shown
from modelhub.datasets.manifests import Item, Manifest
from tenants.errors import FieldError, Invalid

MAX_NAMED = 5


def without(manifest: Manifest, names: Iterable[str]) -> Manifest:
    """The manifest without the items of these names. Raises Invalid if one is not there, or none would be left."""
    gone = set(names)
    unknown = sorted(gone - {item.name for item in manifest.items})
    if unknown:
        raise _wrong(f"The data set has no item {', '.join(map(shown, unknown[:MAX_NAMED]))}{_more(unknown)}.")
    kept = tuple(item for item in manifest.items if item.name not in gone)
    if not kept:
        raise _wrong(f"All {len(gone):,} items would be removed; expected that some stay.")
    return _of(manifest, kept)


def combined(base: Manifest, added: Manifest) -> Manifest:
    """The items of both; of two that have one name, the added one."""
    items = {item.name: item for item in (*base.items, *added.items)}
    return _of(replace(base, classes=(*base.classes, *added.classes)), items.values())


def _of(manifest: Manifest, items: Iterable[Item]) -> Manifest:
    """A manifest of these items, sorted; of the classes, those that there still is an item of."""
    kept = tuple(sorted(items, key=lambda item: item.name))
    left = {item.class_name for item in kept}
    return replace(manifest, classes=tuple(sorted(left.intersection(manifest.classes))), items=kept)


def _more(names: list[str]) -> str:
    return f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""


def _wrong(detail: str) -> Invalid:
    return Invalid(detail, errors=(FieldError("remove", "Expected names of items of the data set, not of all."),))
