"""Data sets: uploaded, checked item by item, sealed; the verbs, and the manifest that training reads."""

from modelhub.datasets.checking import Report, Unusable
from modelhub.datasets.lifecycle import create, delete, get, seal
from modelhub.datasets.manifests import Column, Item, Manifest, load_manifest
from modelhub.datasets.splits import Split
from modelhub.datasets.uploads import receive

__all__ = [
    "Column",
    "Item",
    "Manifest",
    "Report",
    "Split",
    "Unusable",
    "create",
    "delete",
    "get",
    "load_manifest",
    "receive",
    "seal",
]
