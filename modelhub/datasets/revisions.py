"""What a version leaves out of the one before, whatever its kind. (What is added: `checking.combined`.)"""

from collections.abc import Iterable
from dataclasses import replace

from modelhub import storage
from modelhub.datasets import row_revisions
from modelhub.datasets.archives import shown
from modelhub.datasets.manifests import Manifest
from tenants.errors import FieldError, Invalid

MAX_NAMED = 5


def without(manifest: Manifest, names: Iterable[str], *, staging: storage.Staging) -> Manifest:
    """The manifest without the items of these names: files, or rows; parts of rows that change are staged.

    Raises Invalid if one is not there, or none would be left.
    """
    gone = set(names)
    if any("rows" in item.facts for item in manifest.items):
        return row_revisions.without(manifest, gone, staging=staging)
    unknown = sorted(gone - {item.name for item in manifest.items})
    if unknown:
        more = f" and {len(unknown) - MAX_NAMED:,} more" if len(unknown) > MAX_NAMED else ""
        raise _wrong(f"The data set has no item {', '.join(map(shown, unknown[:MAX_NAMED]))}{more}.")
    kept = tuple(item for item in manifest.items if item.name not in gone)
    if not kept:
        raise _wrong(f"All {len(gone):,} items would be removed; expected that some stay.")
    targets = {item.target for item in kept}
    return replace(manifest, items=kept, classes=tuple(name for name in manifest.classes if name in targets))


def _wrong(detail: str) -> Invalid:
    return Invalid(detail, errors=(FieldError("remove", "Expected names of items of the data set, not of all."),))
