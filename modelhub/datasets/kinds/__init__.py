"""The kinds of data sets, one a file: to add one, copy a sibling, and name it here and in `DatasetKind`."""

from modelhub.datasets.kinds.base import ZIP_TYPES, BadItem, Kind, Source, Work
from modelhub.datasets.kinds.images import Images
from modelhub.datasets.kinds.speech import Speech
from modelhub.datasets.kinds.tables import Tables
from modelhub.datasets.kinds.texts import Texts
from modelhub.datasets.kinds.translations import Translations

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Images(), Speech(), Texts(), Translations(), Tables())}


def get(name: str) -> Kind:
    """The kind of this name."""
    return KINDS[name]


__all__ = ["KINDS", "ZIP_TYPES", "BadItem", "Kind", "Source", "Work", "get"]
