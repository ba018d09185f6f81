"""API keys: their form, and the verbs create, rotate, revoke, report a leak, and find."""

import hashlib
import re
import secrets
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from tenants import audit, notices
from tenants.errors import Conflict, Denied, FieldError, Invalid, NotFound, Unauthenticated
from tenants.keys import addresses, key_uses
from tenants.keys.addresses import Address, Network
from tenants.models import ApiKey, Tenant

SCOPES = ("predict", "read", "manage", "billing")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_LENGTH = 30
CHECKSUM_LENGTH = 6
PREFIX_LENGTH = 16
NAME_LENGTH = 80
MOST_NETWORKS = 50
MOST_DEPLOYMENTS = 100
GRACE = timedelta(hours=24)
MOST_GRACE = timedelta(days=30)
FORM = re.compile(rf"aiaas_[a-z]+_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}")


def _none_exists(tenant: Tenant, names: Collection[str]) -> Collection[str]:
    return ()


# Which of these deployments the tenant has. The app that serves them puts its answer here: this one knows of none.
existing_deployments: Callable[[Tenant, Collection[str]], Collection[str]] = _none_exists


class KeyRefused(Unauthenticated):
    """The one answer to every key that does not work: whoever tries keys learns nothing of what is wrong with one."""

    def __init__(self) -> None:
        super().__init__("The API key is not known, has expired, was revoked, or may not be used from your address.")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time its text is known."""

    row: ApiKey
    text: str


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may give to a key at most: these scopes, and use from these networks; none means from anywhere."""

    scopes: frozenset[str] = frozenset(SCOPES)
    networks: tuple[Network, ...] | None = None


EVERYTHING = Rights()


def rights_of(key: ApiKey) -> Rights:
    """The rights that a key has."""
    return Rights(frozenset(key.scopes), networks_of(key))


def networks_of(key: ApiKey) -> tuple[Network, ...] | None:
    """The networks that a key may be used from; none means from anywhere."""
    return None if key.networks is None else tuple(map(addresses.network, key.networks))


def create(
    *,
    tenant: Tenant,
    name: str,
    scopes: Sequence[str],
    actor: str,
    may_grant: Rights = EVERYTHING,
    networks: Sequence[str] | None = None,
    deployments: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    now: datetime,
) -> NewKey:
    """Makes a key; its text is in the answer and nowhere else. `may_grant`: what the actor has.

    With `networks` it works from these only, with `deployments` it calls these only.
    """
    if not 1 <= len(name) <= NAME_LENGTH:
        raise _wrong("name", f"Expected 1 to {NAME_LENGTH} characters; got {len(name)}.")
    _check_scopes(scopes)
    if deployments is not None:
        _check_deployments(tenant, deployments, scopes)
    rights = Rights(frozenset(scopes), None if networks is None else _parsed(networks))
    _check_grant(rights, may_grant, actor)
    if expires_at is not None and expires_at <= now:
        raise Invalid(
            f"The key would have expired already: expires_at is {expires_at.isoformat()}, now is {now.isoformat()}.",
            errors=(FieldError("expires_at", "Expected a time in the future."),),
        )
    new = _written(
        ApiKey(
            tenant=tenant,
            name=name,
            scopes=sorted(rights.scopes, key=SCOPES.index),
            networks=None if rights.networks is None else list(dict.fromkeys(map(str, rights.networks))),
            deployments=None if deployments is None else sorted(set(deployments)),
            created_at=now,
            created_by=actor,
            expires_at=expires_at,
        )
    )
    audit.record(
        tenant=tenant, actor=actor, verb="api_key.create", subject=new.row.pk, name=name, scopes=new.row.scopes,
        networks=new.row.networks, deployments=new.row.deployments,
    )  # fmt: skip
    return new


@transaction.atomic
def rotate(
    *, key: ApiKey, actor: str, may_grant: Rights = EVERYTHING, grace: timedelta = GRACE, now: datetime
) -> NewKey:
    """Makes a key's successor, with its rights and as long a life; the key itself works on for `grace`, then ends."""
    rows = ApiKey.objects.for_tenant(key.tenant_id)
    row = rows.select_for_update(of=("self",)).select_related("tenant").get(pk=key.pk)
    _check_rotatable(row, grace, now)
    _check_grant(rights_of(row), may_grant, actor)
    new = _written(
        ApiKey(
            tenant=row.tenant,
            name=row.name,
            scopes=row.scopes,
            networks=row.networks,
            deployments=row.deployments,
            created_at=now,
            created_by=actor,
            expires_at=None if row.expires_at is None else now + (row.expires_at - row.created_at),
            replaces=row,
        )
    )
    ends = min(row.expires_at or now + grace, now + grace)
    rows.filter(pk=row.pk).update(**({"expires_at": ends} if grace else {"revoked_at": now}))
    audit.record(
        tenant=row.tenant, actor=actor, verb="api_key.rotate", subject=row.pk, successor=new.row.pk,
        grace_seconds=int(grace.total_seconds()),
    )  # fmt: skip
    return new


def revoke(*, key: ApiKey, actor: str, now: datetime) -> ApiKey:
    """Ends a key for good; the planes hear of it by the directory's feed. Revoking twice changes nothing."""
    if _end(key, now=now):
        audit.record(tenant=key.tenant_id, actor=actor, verb="api_key.revoke", subject=key.pk)
    return key


def report_leak(*, text: str, reporter: str, now: datetime) -> bool:
    """Revokes the key that somebody found, and tells its owner; whether there was such a live key.

    `reporter` is the address of who found it. Needs operator scope: whose key it is, is the question.
    """
    if not is_well_formed(text):
        message = (
            f"Expected a whole key: aiaas_, live or local, _, and {SECRET_LENGTH + CHECKSUM_LENGTH} letters and "
            f"digits, of which the last {CHECKSUM_LENGTH} are a checksum that this text does not have."
        )
        raise Invalid(f"This is no key of this service. {message}", errors=(FieldError("key", message),))
    key = ApiKey.across_tenants.filter(digest=digest(text), revoked_at=None).first()
    if key is None or state(key, now=now) != "active":
        return False
    return leaked(key=key, actor="reporter", reporter=reporter, now=now)


@transaction.atomic
def leaked(*, key: ApiKey, actor: str, reporter: str = "", now: datetime) -> bool:
    """Revokes a key that others have seen, and tells its owner; whether it was not revoked before."""
    if not _end(key, now=now):
        return False
    audit.record(tenant=key.tenant_id, actor=actor, verb="api_key.leak", subject=key.pk, reporter=reporter)
    notices.announce(
        tenant=key.tenant_id, kind="api_key.leaked", once=key.pk, api_key=key.pk, name=key.name, prefix=key.prefix,
        scopes=key.scopes, revoked_at=now.isoformat(),
    )  # fmt: skip
    return True


def state(key: ApiKey, *, now: datetime) -> str:
    """Whether a key works: active, expired or revoked."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def get(*, tenant: Tenant, key_id: str) -> ApiKey:
    """The tenant's key of this id."""
    row = ApiKey.objects.for_tenant(tenant).select_related("successor").filter(pk=key_id).first()
    if row is None:
        raise NotFound(f"There is no API key {key_id!r}.")
    return row


def find(*, text: str, sender: Address | None, now: datetime) -> ApiKey:
    """The live key with this text. Raises KeyRefused. Needs operator scope: whose key it is, is the question.

    It is looked up by its sha256, so no comparison takes the longer, the more of a key somebody has guessed.
    """
    row = None
    if is_well_formed(text):
        row = ApiKey.across_tenants.select_related("tenant", "tenant__plan").filter(digest=digest(text)).first()
    if row is None or state(row, now=now) != "active" or not row.tenant.active:
        raise KeyRefused
    networks = networks_of(row)
    if networks is not None and not addresses.contains(networks, sender):
        raise KeyRefused
    key_uses.note(row.pk, now.timestamp())
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


def _end(key: ApiKey, *, now: datetime) -> bool:
    """Whether this has ended the key."""
    changed = ApiKey.objects.for_tenant(key.tenant_id).filter(pk=key.pk, revoked_at=None).update(revoked_at=now)
    key.refresh_from_db(fields=["revoked_at"])
    return bool(changed)


def _written(row: ApiKey) -> NewKey:
    """Draws the text of a new key and writes its row."""
    text = draw()
    row.prefix, row.digest = text[:PREFIX_LENGTH], digest(text)
    row.save(force_insert=True)
    return NewKey(row=row, text=text)


def _check_rotatable(key: ApiKey, grace: timedelta, now: datetime) -> None:
    seconds, most = int(grace.total_seconds()), int(MOST_GRACE.total_seconds())
    if not 0 <= seconds <= most:
        raise _wrong("grace_seconds", f"Expected 0 to {most}; got {seconds}.")
    if state(key, now=now) != "active":
        raise Conflict(f"The key {key.pk} is {state(key, now=now)}; only a key that works is rotated. Make a new one.")
    successor = ApiKey.objects.for_tenant(key.tenant_id).filter(replaces=key).first()
    if successor is not None:
        raise Conflict(f"The key {key.pk} was rotated already; its successor is {successor.pk}.")


def _check_scopes(scopes: Sequence[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Invalid(
            f"A key needs at least one of the scopes {', '.join(SCOPES)}; got {', '.join(unknown) or 'none'}.",
            errors=(FieldError("scopes", f"Expected some of {', '.join(SCOPES)}."),),
        )


def _parsed(networks: Sequence[str]) -> tuple[Network, ...]:
    if not 1 <= len(networks) <= MOST_NETWORKS:
        raise _wrong(
            "networks", f"Expected 1 to {MOST_NETWORKS}, or none at all for a key that works from anywhere;"
            f" got {len(networks)}.",
        )  # fmt: skip
    try:
        return tuple(map(addresses.network, networks))
    except ValueError as error:
        raise _wrong("networks", str(error)) from None


def _check_deployments(tenant: Tenant, names: Sequence[str], scopes: Sequence[str]) -> None:
    """What is not there cannot be listed; another tenant's is not there either."""
    if not 1 <= len(names) <= MOST_DEPLOYMENTS:
        raise _wrong(
            "deployments", f"Expected 1 to {MOST_DEPLOYMENTS}, or none at all for a key that calls every deployment;"
            f" got {len(names)}.",
        )  # fmt: skip
    if "manage" in scopes:
        raise _wrong(
            "deployments", "A key with the scope manage could change what a deployment serves, so a list would not "
            "confine it. Expected no list, or scopes without manage.",
        )  # fmt: skip
    unknown = sorted(set(names) - set(existing_deployments(tenant, names)))
    if unknown:
        raise _wrong("deployments", f"There is no deployment {', '.join(map(repr, unknown))}.")


def _check_grant(wanted: Rights, may_grant: Rights, actor: str) -> None:
    """Nobody gives what they do not have."""
    beyond = sorted(wanted.scopes - may_grant.scopes)
    if beyond:
        raise Denied(
            f"{actor} cannot give a key the scope {', '.join(beyond)}, "
            f"having only {', '.join(sorted(may_grant.scopes))}."
        )
    if may_grant.networks is None:
        return
    confined = f"{actor} works from {', '.join(map(str, may_grant.networks))} only, and cannot give a key"
    if wanted.networks is None:
        raise Denied(f"{confined} that works from anywhere.")
    outside = [str(one) for one in wanted.networks if not addresses.covers(may_grant.networks, one)]
    if outside:
        raise Denied(f"{confined} that works from {', '.join(outside)}.")


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=(FieldError(field, message),))
