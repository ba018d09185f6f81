"""Data sets: uploaded, checked item by item, sealed, derived, erased; and the manifest that training reads."""

from modelhub.datasets.checking import Report, Unusable
from modelhub.datasets.lifecycle import change, create, delete, get, seal
from modelhub.datasets.manifests import Column, Item, Manifest, load_manifest
from modelhub.datasets.splits import Split
from modelhub.datasets.uploads import receive
from modelhub.datasets.versions import derive, of_family

__all__ = [
    "Column",
    "Item",
    "Manifest",
    "Report",
    "Split",
    "Unusable",
    "change",
    "create",
    "delete",
    "derive",
    "get",
    "load_manifest",
    "of_family",
    "receive",
    "seal",
]
