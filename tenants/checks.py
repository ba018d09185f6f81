"""System checks of the database: its role must be held by row-level security, and every tenant's table must have it."""

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

ROLE = "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
UNPROTECTED = """
SELECT table_class.relname FROM pg_class AS table_class
JOIN pg_attribute AS column_of ON column_of.attrelid = table_class.oid AND NOT column_of.attisdropped
WHERE table_class.relkind IN ('r', 'p') AND table_class.relnamespace = current_schema()::regnamespace
  AND column_of.attname = 'tenant_id' AND NOT (table_class.relrowsecurity AND table_class.relforcerowsecurity)
ORDER BY table_class.relname
"""


@register(Tags.database)
def role_is_held_by_row_security(
    *, app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Refuses a role that sees every row whatever the policies say."""
    return [error for alias in databases or () for error in _role_errors(connections[alias])]


@register(Tags.database)
def tenants_tables_are_protected(
    *, app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Refuses a table of tenants' rows without forced row-level security, once all migrations are there."""
    return [error for alias in databases or () for error in _table_errors(connections[alias])]


def _role_errors(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    with connection.cursor() as cursor:
        cursor.execute(ROLE)
        name, superuser, bypasses = cursor.fetchone()
    if not (superuser or bypasses):
        return []
    what = "a superuser" if superuser else "allowed to bypass row-level security (BYPASSRLS)"
    return [
        Error(
            f"The database role {name!r} is {what}: nothing would keep tenants' rows apart.",
            hint=f"Connect as another role, or: ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS.",
            id="tenants.E001",
        )
    ]


def _table_errors(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return []  # A migration that is still to come may protect the table: `migrate` runs this check first.
    with connection.cursor() as cursor:
        cursor.execute(UNPROTECTED)
        tables = [name for (name,) in cursor.fetchall()]
    return [
        Error(
            f"The table {table} has a tenant_id and no forced row-level security.",
            hint=f'Add tenants.row_security.protect("{table}") to a migration.',
            id="tenants.E002",
        )
        for table in tables
    ]
