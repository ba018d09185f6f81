"""Files on their way in: prepared where nobody sees them, then stored all at once or not at all."""

import contextlib
import io
import secrets
import shutil
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from modelhub.models import Blob
from modelhub.storage import ciphers, files, keys
from modelhub.storage.blobs import ROWS_A_QUERY, StoredBlob, digest_of, live, lock, remove_unrecorded


def put(*, tenant_id: str, source: Path | bytes, now: datetime) -> StoredBlob:
    """Stores a file, in a transaction of the tenant or operator; the same content a second time changes nothing."""
    with Staging(tenant_id=tenant_id) as staging:
        blob = staging.add(source)
        staging.store(now=now)
    return blob


class Staging:
    """A batch of files of one tenant. `add` may be called from several threads; what is not stored leaves no trace."""

    def __init__(self, *, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.folder = files.incoming() / secrets.token_hex(12)
        self.blobs: dict[str, StoredBlob] = {}
        self._stored_at: datetime | None = None
        self._key = b""

    def __enter__(self) -> Self:
        self._key = keys.for_writing(self.tenant_id)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if error is not None and self._stored_at is not None:
            remove_unrecorded(tenant_id=self.tenant_id, digests=self.blobs, now=self._stored_at)

    def add(self, source: Path | bytes) -> StoredBlob:
        """Takes a file into the batch; it is encrypted on its way."""
        blob = digest_of(source)
        # A second file of the same content is not written: the first will be whole before anybody stores the batch.
        with (
            contextlib.suppress(FileExistsError),
            (self.folder / blob.sha256).open("xb") as copy,
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as content,
        ):
            ciphers.encrypt(content, copy, key=self._key, bound_to=keys.name_of(self.tenant_id, blob.sha256))
        self.blobs[blob.sha256] = blob
        return blob

    def open(self, sha256: str) -> BinaryIO:
        """The content of a file of the batch, open for reading."""
        stored = (self.folder / sha256).open("rb")
        return ciphers.opened(stored, key=lambda: self._key, bound_to=keys.name_of(self.tenant_id, sha256))

    def record(self, *, now: datetime) -> None:
        """Adds the rows of the batch; nobody sees them before this transaction is committed."""
        at = lock(tenant_id=self.tenant_id, now=now)
        live(self.tenant_id).bulk_create(
            [Blob(tenant_id=self.tenant_id, sha256=b.sha256, size=b.size, stored_at=at) for b in self.blobs.values()],
            batch_size=ROWS_A_QUERY,
            ignore_conflicts=True,
        )

    def move_in(self, *, now: datetime) -> None:
        """Puts the files of the batch in their places: the last thing that a transaction does after `record`."""
        self._stored_at = now
        for sha256 in self.blobs:
            files.move_in(self.folder / sha256, name=files.name_of(tenant_id=self.tenant_id, sha256=sha256))

    def store(self, *, now: datetime) -> None:
        """Rows and files of the whole batch, in a transaction of the tenant or the operator."""
        self.record(now=now)
        self.move_in(now=now)
