"""A data set as an archive that can be uploaded again, written while it is sent."""

import zipfile
from collections.abc import Iterator

from modelhub import storage
from modelhub.datasets.manifests import Manifest, load_manifest
from modelhub.models import Dataset
from tenants import audit

CHUNK = 256 * 1024
# The same content gives the same archive.
TIME = (1980, 1, 1, 0, 0, 0)


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
    """The zip file's bytes, piece by piece: each item under its name, as it is stored. Makes no query.

    Uploaded as a data set of the same kind, it gives a manifest of the same sha256.
    """
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as target:  # type: ignore[arg-type]
        for item in manifest.items:
            entry = zipfile.ZipInfo(item.name, TIME)
            entry.file_size = item.size
            entry.external_attr = 0o644 << 16
            with (
                storage.open(tenant_id=tenant_id, sha256=item.sha256) as content,
                target.open(entry, "w") as copy,
            ):
                while chunk := content.read(CHUNK):
                    copy.write(chunk)
                    if piece := outbox.take(least=CHUNK):
                        yield piece
    yield outbox.take()
