"""API keys: their form, and the verbs create, find and revoke."""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from tenants import audit
from tenants.errors import Denied, FieldError, Invalid, NotFound
from tenants.models import ApiKey, Tenant

SCOPES = ("predict", "read", "manage", "billing")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_LENGTH = 30
CHECKSUM_LENGTH = 6
PREFIX_LENGTH = 16
NAME_LENGTH = 80
FORM = re.compile(rf"aiaas_[a-z]+_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time its text is known."""

    row: ApiKey
    text: str


def create(
    *,
    tenant: Tenant,
    name: str,
    scopes: list[str],
    actor: str,
    may_grant: frozenset[str] = frozenset(SCOPES),
    expires_at: datetime | None = None,
    now: datetime,
) -> NewKey:
    """Makes a key; its text is in the answer and nowhere else. `may_grant`: the scopes that the actor has."""
    if not 1 <= len(name) <= NAME_LENGTH:
        message = f"Expected 1 to {NAME_LENGTH} characters; got {len(name)}."
        raise Invalid(f"name: {message}", errors=(FieldError("name", message),))
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Invalid(
            f"A key needs at least one of the scopes {', '.join(SCOPES)}; got {', '.join(unknown) or 'none'}.",
            errors=(FieldError("scopes", f"Expected some of {', '.join(SCOPES)}."),),
        )
    beyond = sorted(set(scopes) - may_grant)
    if beyond:
        raise Denied(
            f"{actor} cannot give a key the scope {', '.join(beyond)}, having only {', '.join(sorted(may_grant))}."
        )
    if expires_at is not None and expires_at <= now:
        raise Invalid(
            f"The key would have expired already: expires_at is {expires_at.isoformat()}, now is {now.isoformat()}.",
            errors=(FieldError("expires_at", "Expected a time in the future."),),
        )
    text = draw()
    row = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        prefix=text[:PREFIX_LENGTH],
        digest=digest(text),
        scopes=sorted(set(scopes), key=SCOPES.index),
        created_at=now,
        created_by=actor,
        expires_at=expires_at,
    )
    audit.record(tenant=tenant, actor=actor, verb="api_key.create", subject=row.pk, name=name, scopes=row.scopes)
    return NewKey(row=row, text=text)


def revoke(*, key: ApiKey, actor: str, now: datetime) -> ApiKey:
    """Ends a key for good; the planes hear of it by the directory's feed. Revoking twice changes nothing."""
    changed = ApiKey.objects.for_tenant(key.tenant_id).filter(pk=key.pk, revoked_at=None).update(revoked_at=now)
    if changed:
        audit.record(tenant=key.tenant_id, actor=actor, verb="api_key.revoke", subject=key.pk)
    key.refresh_from_db()
    return key


def get(*, tenant: Tenant, key_id: str) -> ApiKey:
    """The tenant's key of this id."""
    row = ApiKey.objects.for_tenant(tenant).filter(pk=key_id).first()
    if row is None:
        raise NotFound(f"There is no API key {key_id!r}.")
    return row


def find(*, text: str, now: datetime) -> ApiKey | None:
    """The live key with this text, or none. Needs operator scope: whose key it is, is the question."""
    if not is_well_formed(text):
        return None
    row = ApiKey.across_tenants.select_related("tenant", "tenant__plan").filter(digest=digest(text)).first()
    if row is None or row.revoked_at is not None or not row.tenant.active:
        return None
    if row.expires_at is not None and row.expires_at <= now:
        return None
    return row


def draw() -> str:
    """A new key: `aiaas_<env>_<30 base62><6 base62 CRC32>`, so that a scanner can check it offline."""
    environment = "live" if settings.PRODUCTION else "local"
    body = f"aiaas_{environment}_" + "".join(secrets.choice(BASE62) for _ in range(SECRET_LENGTH))
    return body + checksum(body)


def is_well_formed(text: str) -> bool:
    """Whether the text has the form of a key and its checksum is right; says nothing about its existence."""
    return FORM.fullmatch(text) is not None and checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]


def checksum(body: str) -> str:
    """CRC32 of the text before it, as six base62 digits."""
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def digest(text: str) -> bytes:
    """What is kept of a key: 180 bits of randomness need no slow hash."""
    return hashlib.sha256(text.encode()).digest()
