"""The checks of the database: its role, and row-level security on every table of tenants' rows."""

import secrets

import psycopg2
import pytest
from django.apps import apps
from django.core.checks import CheckMessage, run_checks
from django.core.checks.registry import registry
from django.db import connection

from aiaas_site import embedded_database
from tenants import checks, scoping
from tenants.models import Tenant
from tests.conftest import Account

pytestmark = pytest.mark.django_db


def database_errors() -> list[CheckMessage]:
    found = run_checks(tags=["database"], databases=["default"])
    return [message for message in found if str(message.id).startswith("tenants.")]


def _as_superuser(*statements: str) -> None:
    session = psycopg2.connect(embedded_database.ensure_started_server().get_uri())
    session.autocommit = True
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    session.close()


def test_the_sites_own_database_passes() -> None:
    assert database_errors() == []


@pytest.mark.parametrize("power", ["SUPERUSER", "BYPASSRLS"])
def test_a_role_that_row_security_does_not_hold_is_refused(power: str) -> None:
    role = f"powerful_{secrets.token_hex(4)}"  # others use the site's own role meanwhile
    _as_superuser(f"CREATE ROLE {role} {power}", f"GRANT {role} TO aiaas")
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {role}")
            errors = checks.role_is_held_by_row_security(databases=["default"])
            cursor.execute("RESET ROLE")
    finally:
        _as_superuser(f"DROP ROLE {role}")
    assert [error.id for error in errors] == ["tenants.E001"]
    assert "ALTER ROLE" in str(errors[0].hint)
    assert checks.role_is_held_by_row_security in registry.get_checks()


@pytest.mark.parametrize("change", ["NO FORCE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY"])
def test_a_table_without_forced_row_security_is_refused(change: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE tenants_apikey {change}")
    errors = database_errors()
    assert [error.id for error in errors] == ["tenants.E002"]
    assert "tenants_apikey" in errors[0].msg


def protected_tables() -> list[str]:
    return [
        model._meta.db_table
        for model in apps.get_models()
        if model is Tenant or any(field.attname == "tenant_id" for field in model._meta.concrete_fields)
    ]


def test_each_table_hides_its_rows_from_others(acme: Account, globex: Account) -> None:
    """Structural: every table of tenants' rows has the policy, and forces it on its owner."""
    tables = protected_tables()
    assert len(tables) > 10
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_policies JOIN pg_class ON relname = tablename"
            " WHERE policyname = 'tenant_isolation' AND relrowsecurity AND relforcerowsecurity"
        )
        assert {name for (name,) in cursor.fetchall()} == set(tables)
        for table in tables:
            column = "id" if table == "tenants_tenant" else "tenant_id"
            with scoping.tenant(acme.tenant.pk):
                cursor.execute(f"SELECT DISTINCT {column} FROM {table}")
                assert {row[0] for row in cursor.fetchall()} <= {acme.tenant.pk}
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone()[0] == 0
