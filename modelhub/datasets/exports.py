"""A data set as an archive that can be uploaded again, written while it is sent."""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import orjson

from modelhub import storage
from modelhub.datasets.kinds import base
from modelhub.datasets.manifests import Item, Manifest, load_manifest
from modelhub.datasets.splits import SPLITS
from modelhub.models import Dataset
from tenants import audit

CHUNK = 256 * 1024
# The same content gives the same archive.
TIME = (1980, 1, 1, 0, 0, 0)
# What a list of files is called, and its columns for name, target and group.
LISTS = {
    "image-classification": ("labels.csv", ("file", "label", "group")),
    "speech": ("transcripts.csv", ("path", "transcript", "speaker")),
}

Pieces = Iterable[bytes]


class _Outbox:
    """What the zip file's writer has written and nobody has taken yet; it cannot go back in it."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        self._waiting.append(bytes(data))
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing beneath it to be flushed."""

    def close(self) -> None:
        """There is nothing beneath it to be closed."""

    def take(self, *, least: int = 0) -> bytes:
        """All that waits, if it is so much at least."""
        if self._size < least:
            return b""
        taken = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        return taken


def export(*, dataset: Dataset, actor: str) -> Iterator[bytes]:
    """The data set's archive, and a row that says who took it; raises Conflict if it has no content."""
    manifest = load_manifest(dataset)
    audit.record(
        tenant=dataset.tenant_id, actor=actor, verb="dataset.export", subject=dataset.pk,
        manifest_sha256=dataset.manifest_sha256,
    )  # fmt: skip
    return archive(tenant_id=dataset.tenant_id, manifest=manifest)


def archive(*, tenant_id: str, manifest: Manifest) -> Iterator[bytes]:
    """The zip file's bytes, piece by piece. Uploaded as a data set of the same kind, it gives the same content.

    Files are as they came, under their names, with a list of what is said of them where their folders do not say it;
    their manifest is the same again. Rows are JSON Lines, a file a split; they are named after their new file.
    """

    def opened(sha256: str) -> Any:
        return storage.open(tenant_id=tenant_id, sha256=sha256)

    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as target:
        for entry, pieces in _entries(manifest, opened):
            with target.open(entry, "w", force_zip64=entry.compress_type != zipfile.ZIP_STORED) as copy:
                for piece in pieces:
                    copy.write(piece)
                    if ready := outbox.take(least=CHUNK):
                        yield ready
    yield outbox.take()


def _entries(manifest: Manifest, opened: base.Open) -> Iterator[tuple[zipfile.ZipInfo, Pieces]]:
    if manifest.kind not in LISTS:
        for split in SPLITS:
            if items := manifest.of(split):
                yield _entry(f"{split}.jsonl", method=zipfile.ZIP_DEFLATED), _rows(items, opened)
        return
    if any(not _says_all(item, manifest.kind) for item in manifest.items):
        name, columns = LISTS[manifest.kind]
        content = _list(manifest.items, (*columns, "split"))
        yield _entry(name, size=len(content)), [content]
    for item in manifest.items:
        yield _entry(item.name, size=item.size), _content(item, opened)


def _entry(name: str, *, size: int = 0, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, TIME)
    entry.compress_type = method
    entry.file_size = size
    entry.external_attr = 0o644 << 16
    return entry


def _says_all(item: Item, kind: str) -> bool:
    """Whether the folders of a picture say its split and class."""
    folders = item.name.split("/")[:-1]
    return kind == "image-classification" and folders == [item.split, item.target] and not item.group


def _list(items: Iterable[Item], columns: tuple[str, ...]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows((item.name, item.target, item.group, item.split) for item in items)
    return text.getvalue().encode()


def _content(item: Item, opened: base.Open) -> Iterator[bytes]:
    with opened(item.sha256) as content:
        while chunk := content.read(CHUNK):
            yield chunk


def _rows(items: Iterable[Item], opened: base.Open) -> Iterator[bytes]:
    """The rows of a split, as they may be uploaded: a table's columns by their names."""
    lines = chain.from_iterable(_lines(item, opened) for item in items)
    for row in lines:
        group = {"group": row["group"]} if "group" in row else {}
        values = row["values"] if "values" in row else {k: v for k, v in row.items() if k not in ("name", "group")}
        yield orjson.dumps(values | group) + b"\n"


def _lines(item: Item, opened: base.Open) -> Iterator[dict[str, Any]]:
    with opened(item.sha256) as content:
        for line in content:
            yield orjson.loads(line)
