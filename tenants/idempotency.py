"""Idempotency keys: a retried POST gets the first answer, and nothing is done twice."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from tenants.accounts import Caller
from tenants.errors import Conflict, FieldError, Invalid
from tenants.models import IdempotentAnswer

MAX_LENGTH = 255
KEPT = timedelta(days=1)


def fingerprint(method: str, path: str, body: Any) -> str:
    """What makes two requests the same: method, path and the meaning of the body."""
    text = json.dumps([method, path, body], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def begin(*, caller: Caller, key: str, fingerprint: str, now: datetime) -> IdempotentAnswer:
    """The row of this key: with a status if it was answered before, else reserved by this transaction.

    A retry that arrives while the first request runs waits here for its commit.
    """
    if not 1 <= len(key) <= MAX_LENGTH:
        raise Invalid(
            f"Idempotency-Key has {len(key)} characters; expected 1 to {MAX_LENGTH}.",
            errors=(FieldError("Idempotency-Key", f"Expected 1 to {MAX_LENGTH} characters."),),
        )
    _forget(caller, before=now - KEPT)
    try:
        with transaction.atomic():
            return IdempotentAnswer.objects.create(
                tenant=caller.tenant, caller=caller.actor, key=key, fingerprint=fingerprint, created_at=now
            )
    except IntegrityError:
        row = IdempotentAnswer.objects.for_tenant(caller.tenant).get(caller=caller.actor, key=key)
    if row.fingerprint != fingerprint:
        raise Conflict(f"The Idempotency-Key {key!r} was used for another request; draw a new one for each request.")
    return row


def keep(row: IdempotentAnswer, *, status: int, body: Any) -> None:
    """Stores the answer, in the transaction that did the work."""
    row.status = status
    row.body = json.loads(json.dumps(body, default=str))
    row.save(update_fields=["status", "body"])


def _forget(caller: Caller, *, before: datetime) -> None:
    rows = IdempotentAnswer.objects.for_tenant(caller.tenant)
    old = rows.filter(caller=caller.actor, created_at__lt=before).select_for_update(skip_locked=True)
    rows.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
