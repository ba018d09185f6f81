"""The archive: every segment of the ledger, compressed, in file storage, so that a bill can be derived from it again.

A file is named by the sha256 of the segment's bytes and never changes. It is there before the transaction that takes
the segment commits, so a transaction that fails may leave a file that no segment names: `sweep` removes those.
"""

import contextlib
import gzip
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage, storages
from django.db import connection
from isal import igzip

from tenants import scoping
from tenants.models import UsageSegment

FOLDER = "ledger"
LEVEL = 1  # A sixth of the size, as with the standard library's level 1, in a quarter of its time.
LEFT_BEHIND = timedelta(days=1)
WORTH_A_THREAD = 64 * 1024


class Damaged(Exception):
    """An archived segment is not what was written: its file is missing, torn, or holds something else."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A segment and the name under which the storage has it."""

    data: bytes
    sha256: str
    name: str


@contextlib.contextmanager
def storing(segments: Sequence[bytes]) -> Iterator[list[Archived]]:
    """Stores segments in a thread while the block looks into them; after it, they are all there."""
    archived: list[Archived] = []
    if sum(map(len, segments)) < WORTH_A_THREAD:
        archived += map(store, segments)
        yield archived
        return
    with ThreadPoolExecutor(1, "archive") as thread:
        stored = [thread.submit(store, data) for data in segments]
        yield archived
        archived += [one.result() for one in stored]


def store(data: bytes) -> Archived:
    """Has a segment lie safely in the storage, where the same one may lie already."""
    sha256 = hashlib.sha256(data).hexdigest()
    name = _name(sha256)
    storage = storages["default"]
    if not storage.exists(name):
        content = igzip.compress(data, LEVEL, mtime=0)  # the same bytes each time
        if isinstance(storage, FileSystemStorage):
            _write(Path(storage.path(name)), content)
        else:
            name = storage.save(name, ContentFile(content))
    return Archived(data, sha256, name)


def hold(archived: Sequence[Archived]) -> None:
    """Keeps files from being swept until this transaction, which takes their segments, is over."""
    with connection.cursor() as cursor:
        numbers = [_number(one.sha256) for one in archived]
        cursor.execute("SELECT pg_advisory_xact_lock_shared(number) FROM unnest(%s) AS number", [numbers])
    for one in archived:
        if not default_storage.exists(one.name) and store(one.data).name != one.name:
            raise OSError(f"{one.name} was removed while its segment was taken")


def read(segment: UsageSegment) -> bytes:
    """The bytes of a segment, checked against its sha256; raises Damaged."""
    return load(name=segment.archived_as, sha256=segment.sha256)


def load(*, name: str, sha256: str) -> bytes:
    """The bytes of an archived segment by the name of its file, checked; raises Damaged."""
    if not name:
        raise Damaged("it was taken before segments were archived")
    try:
        with default_storage.open(name, "rb") as file:
            data = gzip.decompress(file.read())
    except FileNotFoundError as error:
        raise Damaged(f"its file {name} is missing") from error
    except (OSError, EOFError) as error:
        raise Damaged(f"its file {name} cannot be read: {error}") from error
    except Exception as error:
        raise Damaged(f"its file {name} holds no gzip: {error}") from error
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise Damaged(f"its file {name} has the sha256 {found}, expected {sha256}")
    return data


def sweep(*, now: datetime) -> int:
    """Removes files of a day ago and longer that no segment names; says how many."""
    return sum(_remove(name, now) for name in _unnamed())


def _unnamed() -> Iterator[str]:
    for folder in _listed(FOLDER)[0]:
        names = {f"{FOLDER}/{folder}/{file}" for file in _listed(f"{FOLDER}/{folder}")[1]}
        named = UsageSegment.objects.filter(archived_as__in=names).values_list("archived_as", flat=True)
        yield from sorted(names - set(named))


def _remove(name: str, now: datetime) -> bool:
    """Under a lock that whoever stores the same content takes, too."""
    sha256 = Path(name).name.lstrip(".")[:64]
    with scoping.operator(), connection.cursor() as cursor, contextlib.suppress(FileNotFoundError):
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_number(sha256)])
        if not cursor.fetchone()[0] or UsageSegment.objects.filter(archived_as=name).exists():
            return False
        if default_storage.get_modified_time(name) > now - LEFT_BEHIND:
            return False
        default_storage.delete(name)
        return True
    return False


def _listed(folder: str) -> tuple[list[str], list[str]]:
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []


def _name(sha256: str) -> str:
    return f"{FOLDER}/{sha256[:2]}/{sha256}.gz"


def _number(sha256: str) -> int:
    """What stands for a file among the database's advisory locks."""
    return int.from_bytes(hashlib.sha256(f"{FOLDER}/{sha256}".encode()).digest()[:8], "big", signed=True)


def _write(path: Path, content: bytes) -> None:
    """The whole file at once, on the disk and not only on its way there."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync(path.parent.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
