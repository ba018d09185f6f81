"""Whose rows this transaction may see: row-level security reads what is set here (`row_security.py`)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


class _Scope(threading.local):
    tenant = ""
    operator = ""


_scope = _Scope()


@contextmanager
def tenant(tenant_id: str) -> Iterator[None]:
    """One transaction that sees the rows of this tenant and no other's."""
    with _scoped(tenant=tenant_id, operator=""):
        yield


@contextmanager
def operator() -> Iterator[None]:
    """One transaction that sees every tenant's rows: the admin, the directory, the ledger, the trainer."""
    with _scoped(tenant="", operator="on"):
        yield


@contextmanager
def nobody() -> Iterator[None]:
    """One transaction that sees no tenant's rows until `switch_to` says whose: a request before it is identified."""
    with _scoped(tenant="", operator=""):
        yield


def switch_to(tenant_id: str) -> None:
    """From here to the end of the enclosing scope, the rows of this tenant are seen."""
    _enter(tenant_id, "")


@contextmanager
def _scoped(*, tenant: str, operator: str) -> Iterator[None]:
    before = (_scope.tenant, _scope.operator)
    nested = connection.in_atomic_block
    try:
        with transaction.atomic():
            _enter(tenant, operator)
            yield
            # An outermost transaction forgets its settings by itself, a savepoint that is kept does not.
            if nested and not connection.needs_rollback:
                _enter(*before)
    finally:
        _scope.tenant, _scope.operator = before


def _enter(tenant: str, operator: str) -> None:
    _scope.tenant, _scope.operator = tenant, operator
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('app.tenant', %s, true), set_config('app.operator', %s, true)", [tenant, operator]
        )
