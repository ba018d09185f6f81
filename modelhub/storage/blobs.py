"""Stored files one by one: open, read and erase them, and the lock under which that is done."""

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet, Sum, Value
from django.db.models.functions import Greatest

from modelhub.models import Blob, StorageAccrual
from modelhub.storage import files, keys
from tenants import scoping
from tenants.ledger import usage

ROWS_A_QUERY = 5000
PRODUCER = "storage"
CHUNK = 1024 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """The address of a stored file, and its length in bytes."""

    sha256: str
    size: int


def open(*, tenant_id: str, sha256: str) -> BinaryIO:  # noqa: A001
    """The stored file's content, open for reading; asks for the tenant's data key if it is not known here."""
    stored = cast(BinaryIO, default_storage.open(files.name_of(tenant_id=tenant_id, sha256=sha256), "rb"))
    return keys.opened(stored, tenant_id=tenant_id, sha256=sha256)


def read(*, tenant_id: str, sha256: str) -> bytes:
    """The stored file's bytes."""
    with open(tenant_id=tenant_id, sha256=sha256) as content:
        return content.read()


def local_path(*, tenant_id: str, sha256: str) -> Path:
    """The stored file's content on this machine, not to be changed: a copy that is made at the first call.

    It is removed with the file, or when nobody has asked for it in a day.
    """
    copy = files.copy_of(files.name_of(tenant_id=tenant_id, sha256=sha256))
    if not copy.exists():
        _make_copy(copy, tenant_id, sha256)
    with contextlib.suppress(FileNotFoundError):
        # Its time of change says to others whether it was changed.
        os.utime(copy, ns=(time.time_ns(), copy.stat().st_mtime_ns))
    return copy


def _make_copy(copy: Path, tenant_id: str, sha256: str) -> None:
    files.remove_old_copies()
    copy.parent.mkdir(parents=True, exist_ok=True)
    draft = copy.with_name(f".{sha256}.{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600)
        with open(tenant_id=tenant_id, sha256=sha256) as content, draft.open("wb") as target:
            shutil.copyfileobj(content, target, CHUNK)
        draft.replace(copy)
    finally:
        draft.unlink(missing_ok=True)


def held(*, tenant_id: str) -> int:
    """How many bytes the tenant has stored."""
    return live(tenant_id).aggregate(total=Sum("size"))["total"] or 0


def erase(*, tenant_id: str, sha256: str, now: datetime) -> None:
    """Erases a stored file; one that is not there is no error."""
    erase_all(tenant_id=tenant_id, digests=[sha256], now=now)


def erase_all(*, tenant_id: str, digests: Iterable[str], now: datetime) -> None:
    """Erases stored files: their rows in this transaction, the files themselves once it is committed."""
    at = lock(tenant_id=tenant_id, now=now)
    erased = list(digests)
    for some in batches(erased):
        live(tenant_id).filter(sha256__in=some).update(erased_at=Greatest("stored_at", Value(at)))
    transaction.on_commit(partial(remove_unrecorded, tenant_id=tenant_id, digests=erased, now=now), robust=True)


def remove_unrecorded(*, tenant_id: str, digests: Iterable[str], now: datetime) -> None:
    """Removes those of these files that no row says are stored: erased ones, and ones whose transaction failed."""
    with scoping.tenant(tenant_id):
        lock(tenant_id=tenant_id, now=now)
        for some in batches(digests):
            stored = set(live(tenant_id).filter(sha256__in=some).values_list("sha256", flat=True))
            for sha256 in some:
                if sha256 not in stored:
                    files.remove(name=files.name_of(tenant_id=tenant_id, sha256=sha256))


def live(tenant_id: str) -> QuerySet[Blob]:
    """The rows of the files that the tenant has stored and not erased."""
    return Blob.objects.for_tenant(tenant_id).filter(erased_at=None)


def lock(*, tenant_id: str, now: datetime) -> datetime:
    """To the end of this transaction nobody else stores, erases or accrues for this tenant.

    Gives the time from which a change counts: never one up to which the ledger has been told.
    """
    row, new = StorageAccrual.objects.select_for_update().get_or_create(tenant_id=tenant_id, defaults={"until": now})
    if new:
        usage.open_producer(
            producer=PRODUCER, now=now
        )  # from here on its byte-hours are missed where they are not told
    return max(now, row.until)


def batches(digests: Iterable[str]) -> Iterator[list[str]]:
    """The digests, as many at a time as one query takes well."""
    rest = iter(digests)
    while some := list(islice(rest, ROWS_A_QUERY)):
        yield some


def digest_of(source: Path | bytes) -> StoredBlob:
    """The address that this content has."""
    if isinstance(source, bytes):
        return StoredBlob(hashlib.sha256(source).hexdigest(), len(source))
    with source.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        return StoredBlob(sha256, content.tell())
