"""Where uploads lie on this machine while they are under way: in SCRATCH_DIR, and gone afterwards."""

import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from modelhub.storage import files


@contextmanager
def body() -> Iterator[Path]:
    """A place for a whole file, gone afterwards; also removes what killed processes left."""
    folder = _folder("uploads")
    for place in (folder, files.incoming()):
        files.remove_left_behind(place)
    with _draft(folder / f"{secrets.token_hex(12)}.zip") as path:
        yield path


@contextmanager
def part(upload_id: str) -> Iterator[Path]:
    """A place for a part that is coming in, gone afterwards unless it was moved to `part_file`."""
    root = _folder("parts")
    # A folder that had no part for so long is one of an upload that has expired.
    files.remove_left_behind(root, seconds=2 * settings.DATASET_UPLOAD_SECONDS)
    (root / upload_id).mkdir(exist_ok=True)
    with _draft(root / upload_id / f"draft-{secrets.token_hex(8)}") as path:
        yield path


def part_file(upload_id: str, *, number: int, sha256: str) -> Path:
    """Where a part is kept: named so that a row never speaks of another content."""
    return Path(settings.SCRATCH_DIR) / "parts" / upload_id / f"{number:05}-{sha256}"


def remove_parts(upload_ids: Iterable[str]) -> None:
    """Removes all parts of these uploads that lie on this machine."""
    for upload_id in upload_ids:
        shutil.rmtree(Path(settings.SCRATCH_DIR) / "parts" / upload_id, ignore_errors=True)


def _folder(name: str) -> Path:
    folder = Path(settings.SCRATCH_DIR) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
