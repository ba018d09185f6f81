"""The data keys of tenants: drawn with the first stored file, destroyed with the tenant."""

import hashlib
import hmac
import secrets
import time
from datetime import datetime
from typing import BinaryIO

from django.conf import settings
from django.db import connection
from django.utils import timezone

from modelhub.models import DataKey
from modelhub.storage import ciphers
from tenants import scoping
from tenants.errors import Conflict

PURPOSE = b"aiaas data keys, format 1"
KNOWN_SECONDS = 60.0

# By tenant: a key that is in the database for good, and until when it is believed to be there still.
_known: dict[str, tuple[bytes, float]] = {}


def opened(stored: BinaryIO, *, tenant_id: str, sha256: str) -> BinaryIO:
    """The content of a stored file; raises Damaged if the tenant's key is destroyed."""
    try:
        return ciphers.opened(stored, key=lambda: of(tenant_id), bound_to=name_of(tenant_id, sha256))
    except BaseException:
        stored.close()
        raise


def of(tenant_id: str) -> bytes | None:
    """The tenant's data key; none if it has none, or none any more."""
    key, until = _known.get(tenant_id, (None, 0.0))
    return key if time.monotonic() < until else _read(tenant_id)


def for_writing(tenant_id: str) -> bytes:
    """The tenant's data key, drawn at the first call; raises Conflict if it is destroyed."""
    if key := of(tenant_id):
        return key
    drawn = secrets.token_bytes(ciphers.KEY)
    with scoping.operator():
        row, _ = DataKey.objects.get_or_create(
            tenant_id=tenant_id,
            defaults={
                "wrapped": ciphers.wrap(drawn, master=_master(), bound_to=tenant_id),
                "created_at": timezone.now(),
            },
        )
    if row.destroyed_at is not None:
        raise Conflict("The data key of this account is destroyed: nothing can be stored for it any more.")
    return ciphers.unwrap(bytes(row.wrapped), master=_master(), bound_to=tenant_id)


def destroy(*, tenant_id: str, now: datetime) -> None:
    """Destroys a tenant's data key: what it encrypted cannot be read by anybody any more, in no copy of the files.

    In operator scope. Other processes may know it for a minute yet.
    """
    _known.pop(tenant_id, None)
    DataKey.objects.get_or_create(tenant_id=tenant_id, defaults={"wrapped": b"", "destroyed_at": now})
    DataKey.objects.filter(tenant_id=tenant_id, destroyed_at=None).update(wrapped=b"", destroyed_at=now)


def name_of(tenant_id: str, sha256: str) -> str:
    """What a stored file is bound to: at another's place it cannot be read."""
    return f"{tenant_id}/{sha256}"


def _read(tenant_id: str) -> bytes | None:
    # A key that this transaction has drawn may never be there for others; a connection of its own is not kept.
    settled, kept = not connection.in_atomic_block, connection.connection is not None
    try:
        with scoping.operator():
            row = DataKey.objects.filter(tenant_id=tenant_id, destroyed_at=None).first()
    finally:
        if not kept:
            connection.close()
    if row is None:
        return None
    key = ciphers.unwrap(bytes(row.wrapped), master=_master(), bound_to=tenant_id)
    if settled:
        _known[tenant_id] = key, time.monotonic() + KNOWN_SECONDS
    return key


def _master() -> bytes:
    return hmac.new((settings.MASTER_KEY or settings.SECRET_KEY).encode(), PURPOSE, hashlib.sha256).digest()
