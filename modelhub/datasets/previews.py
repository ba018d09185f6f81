"""A look into a data set: its first rows by split, thumbnails of pictures, waveforms of sounds."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings

from modelhub import storage
from modelhub.datasets import kinds
from modelhub.datasets.kinds import images, speech
from modelhub.datasets.manifests import Item, load_manifest
from modelhub.datasets.splits import SPLITS
from modelhub.models import Dataset, DatasetKind
from tenants.errors import Conflict, NotFound, Refusal


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture of an item, as a browser shows it."""

    data: bytes
    content_type: str


def preview(*, dataset: Dataset, limit: int, split: str | None = None) -> dict[str, Any]:
    """The columns of a table, and for each split its first rows, `limit` at most; of one split, if it is named.

    A row has what is stored of it. A row that is a file has its name, sha256, target, group and facts. Raises Conflict
    where there is no content.
    """
    manifest = load_manifest(dataset)
    kind = kinds.get(dataset.kind)
    open_file = partial(_open, dataset.tenant_id)
    rows = {
        each: kind.preview(manifest.of(each), open_file=open_file, limit=limit)
        for each in SPLITS
        if split in (None, each)
    }
    columns = [{"name": column.name, "type": column.type} for column in manifest.columns]
    return {"kind": dataset.kind, "columns": columns, "splits": rows}


def thumbnail(*, dataset: Dataset, sha256: str) -> Picture:
    """A PNG of a picture of the data set, at most 96 pixels high and wide."""
    if dataset.kind != DatasetKind.IMAGE_CLASSIFICATION:
        raise Conflict(f"The data set {dataset.name!r} is {dataset.kind}; only pictures have thumbnails.")
    data = _read(dataset, sha256)
    return Picture(images.thumbnail(data, max_pixels=settings.PICTURE_MAX_PIXELS), "image/png")


def waveform(*, dataset: Dataset, sha256: str) -> Picture:
    """An SVG of the envelope of a sound of the data set, 240 pixels wide and 48 high."""
    if dataset.kind != DatasetKind.SPEECH:
        raise Conflict(f"The data set {dataset.name!r} is {dataset.kind}; only sounds have waveforms.")
    data = _read(dataset, sha256)
    return Picture(speech.waveform(data, max_seconds=settings.DATASET_MAX_SOUND_SECONDS), "image/svg+xml")


def picture(*, dataset: Dataset, sha256: str) -> Picture | None:
    """The small picture that items of the kind have; none if they have none, or this one cannot be drawn any more."""
    draw = {DatasetKind.IMAGE_CLASSIFICATION.value: thumbnail, DatasetKind.SPEECH.value: waveform}.get(dataset.kind)
    if draw is None:
        return None
    try:
        return draw(dataset=dataset, sha256=sha256)
    except Refusal:
        return None


def _open(tenant_id: str, sha256: str) -> Any:
    return storage.open(tenant_id=tenant_id, sha256=sha256)


def _read(dataset: Dataset, sha256: str) -> bytes:
    """An item's bytes; only what the data set holds can be asked for."""
    items: tuple[Item, ...] = load_manifest(dataset).items
    if not any(item.sha256 == sha256 for item in items):
        raise NotFound(f"The data set {dataset.name!r} has no item with the sha256 {sha256[:64]!r}.")
    return storage.read(tenant_id=dataset.tenant_id, sha256=sha256)
