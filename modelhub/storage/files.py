"""Where the bytes lie: Django's default storage, which is a folder here or something far away."""

import contextlib
import shutil
import time
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage, storages

LEFT_BEHIND_SECONDS = 24 * 3600
SECONDS_BETWEEN_REMOVALS = 3600.0
_copies_removed_at = [0.0]


def name_of(*, tenant_id: str, sha256: str) -> str:
    """The name under which the storage keeps a tenant's file of this content."""
    return f"tenants/{tenant_id}/{sha256[:2]}/{sha256}"


def folder() -> Path | None:
    """The storage's folder on this machine; none where it is no folder."""
    storage = storages["default"]
    return Path(storage.location) if isinstance(storage, FileSystemStorage) else None


def incoming() -> Path:
    """Where files wait to be moved in: beside the stored ones if those lie in a folder, so that a move is a rename."""
    return (folder() or Path(settings.SCRATCH_DIR)) / "incoming"


def move_in(source: Path, *, name: str) -> None:
    """Puts a whole file in its place at once. One that lies there already has the same content."""
    root = folder()
    if root is not None:
        _rename(source, root / name)
    elif not default_storage.exists(name):
        with source.open("rb") as content:
            default_storage.save(name, File(content))


def copy_of(name: str) -> Path:
    """Where this machine keeps its readable copy of a file."""
    return _copies() / name


def remove_old_copies() -> None:
    """Removes the copies that nobody has asked for in a day, once an hour in each process."""
    if time.monotonic() < _copies_removed_at[0] + SECONDS_BETWEEN_REMOVALS:
        return
    _copies_removed_at[0] = time.monotonic()
    horizon = time.time() - LEFT_BEHIND_SECONDS
    for path in _copies().rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_atime < horizon:
                path.unlink()


def _copies() -> Path:
    return Path(settings.SCRATCH_DIR) / "copies"


def remove(*, name: str) -> None:
    """Takes a file away, and this machine's copy; one that is not there is no error."""
    copy_of(name).unlink(missing_ok=True)
    default_storage.delete(name)


def remove_left_behind(root: Path, *, seconds: float = LEFT_BEHIND_SECONDS) -> None:
    """Removes what processes that were killed left under `root` a day ago or longer, or so many seconds."""
    horizon = time.time() - seconds
    for path in root.glob("*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < horizon:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _rename(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
