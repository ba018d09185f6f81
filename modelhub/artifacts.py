"""Artifacts: the files of a model version, trusted only as far as its sealed manifest and their sha256 agree."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from modelhub import storage

PURPOSE = b"aiaas model manifest, format 1"


class Tampered(Exception):
    """A manifest or a file is not what was published; it must not be served."""


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """The one way to write a manifest down: what is hashed and sealed."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_of(manifest: Mapping[str, Any]) -> str:
    """The manifest's own sha256."""
    return hashlib.sha256(canonical(manifest)).hexdigest()


def seal(*, tenant_id: str, manifest: Mapping[str, Any]) -> str:
    """HMAC-SHA256 of the tenant and the manifest, with a key that only the service has."""
    return hmac.new(_key(), tenant_id.encode() + b"\n" + canonical(manifest), hashlib.sha256).hexdigest()


def checked_path(*, tenant_id: str, manifest: Mapping[str, Any], manifest_seal: str, file: str) -> Path:
    """A file of a version on this machine's disk, after its manifest's seal and its own sha256 were verified.

    Raises Tampered, and nothing of the file may then be read.
    """
    if not hmac.compare_digest(seal(tenant_id=tenant_id, manifest=manifest), manifest_seal):
        raise Tampered(f"The seal of {_named(manifest)} does not fit its manifest: it was changed after publishing.")
    if file not in manifest["files"]:
        raise Tampered(f"{_named(manifest)} has no file {file!r}; it has {', '.join(manifest['files'])}.")
    expected = manifest["files"][file]["sha256"]
    path = storage.local_path(tenant_id=tenant_id, sha256=expected)
    status = path.stat()
    found = _sha256(path, status.st_mtime_ns, status.st_size, status.st_ino)
    if not hmac.compare_digest(found, expected):
        raise Tampered(f"{file} of {_named(manifest)} has the sha256 {found}; {expected} was published.")
    return path


def _named(manifest: Mapping[str, Any]) -> str:
    return f"{manifest.get('model')}@{manifest.get('number')}"


def _key() -> bytes:
    return hmac.new((settings.MANIFEST_KEY or settings.SECRET_KEY).encode(), PURPOSE, hashlib.sha256).digest()


@lru_cache(maxsize=256)
def _sha256(path: Path, modified_ns: int, size: int, inode: int) -> str:
    """The file's sha256; the other arguments make a file that was replaced or rewritten another file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
