"""Checkpoints of trainings: files that a job keeps while it lasts, where each trainer finds them; billed to nobody.

They lie beside the stored files as `checkpoints/TENANT/JOB/SHA256`, one a job, and are no blobs: they are the house's
own means to carry a job on, not something that a customer stores.
"""

import contextlib
import hashlib
import logging
import secrets
import shutil
from collections.abc import Container
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.storage import default_storage

from modelhub.storage import ciphers, files, keys

ROOT = "checkpoints"
CHUNK = 1024 * 1024

logger = logging.getLogger(__name__)


def keep(source: Path, *, tenant_id: str, job_id: str, sha256: str) -> None:
    """Takes a file of this sha256 away from where it is, into the job's place, encrypted as all that is stored."""
    waiting = files.incoming() / secrets.token_hex(12)
    waiting.parent.mkdir(parents=True, exist_ok=True)
    key = keys.for_writing(tenant_id)
    try:
        with source.open("rb") as content, waiting.open("wb") as copy:
            ciphers.encrypt(content, copy, key=key, bound_to=keys.name_of(tenant_id, sha256))
        source.unlink()
        files.move_in(waiting, name=_name(tenant_id, job_id, sha256))
    finally:
        waiting.unlink(missing_ok=True)


def fetch(folder: Path, *, tenant_id: str, job_id: str, sha256: str) -> Path | None:
    """A readable copy of the checkpoint in `folder`; none if it is not whole."""
    name, path = _name(tenant_id, job_id, sha256), folder / sha256
    try:
        stored = cast(BinaryIO, default_storage.open(name, "rb"))
        with keys.opened(stored, tenant_id=tenant_id, sha256=sha256) as content, path.open("wb") as copy:
            shutil.copyfileobj(content, copy, CHUNK)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        logger.warning("the checkpoint %s is not there, or not whole", name, exc_info=True)
        return None
    if found != sha256:
        logger.warning("the checkpoint %s has the sha256 %s", name, found)
        return None
    return path


def drop_all(*, tenant_id: str) -> None:
    """Removes the checkpoints of all jobs of a tenant."""
    for job_id in _listed(f"{ROOT}/{tenant_id}")[0]:
        drop(tenant_id=tenant_id, job_id=job_id)


def drop(*, tenant_id: str, job_id: str, but: str = "") -> None:
    """Removes a job's checkpoints, except the one of this sha256."""
    place = f"{ROOT}/{tenant_id}/{job_id}"
    for sha256 in _listed(place)[1]:
        if sha256 != but:
            default_storage.delete(f"{place}/{sha256}")
    root = files.folder()
    if root is not None and not but:
        for empty in (root / place, (root / place).parent):
            with contextlib.suppress(OSError):  # it is not there, or not empty
                empty.rmdir()


def sweep(*, live: Container[str]) -> int:
    """Removes the checkpoints of jobs that are not among the live ones: what a kill left; says of how many."""
    swept = 0
    for tenant_id in _listed(ROOT)[0]:
        for job_id in _listed(f"{ROOT}/{tenant_id}")[0]:
            if job_id not in live:
                drop(tenant_id=tenant_id, job_id=job_id)
                swept += 1
    return swept


def _name(tenant_id: str, job_id: str, sha256: str) -> str:
    return f"{ROOT}/{tenant_id}/{job_id}/{sha256}"


def _listed(place: str) -> tuple[list[str], list[str]]:
    """The folders and the files in a place; nothing where there is no such place."""
    try:
        return default_storage.listdir(place)
    except FileNotFoundError:
        return [], []
