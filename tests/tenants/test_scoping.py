"""A tenant's rows are not seen outside its scope, whatever the query says."""

import pytest
from django.db import ProgrammingError, connection, transaction

from tenants import scoping
from tenants.models import ApiKey
from tenants.models.scoped import UnscopedQuery
from tests.conftest import Account


def test_a_query_that_names_no_tenant_is_refused() -> None:
    with pytest.raises(UnscopedQuery):
        ApiKey.objects.all()


def test_rows_of_another_tenant_are_hidden_by_the_database(acme: Account, globex: Account) -> None:
    with scoping.tenant(acme.tenant.pk):
        assert {key.tenant_id for key in ApiKey.across_tenants.all()} == {acme.tenant.pk}
        assert not ApiKey.objects.for_tenant(globex.tenant).exists()


def test_without_a_scope_no_row_is_seen(acme: Account) -> None:
    assert not ApiKey.across_tenants.exists()
    with scoping.nobody():
        assert not ApiKey.across_tenants.exists()


def test_a_row_cannot_be_written_for_another_tenant(acme: Account, globex: Account) -> None:
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        transaction.atomic(),
        scoping.tenant(acme.tenant.pk),
    ):
        ApiKey.objects.create(tenant=globex.tenant, name="stolen", digest=b"0" * 32, scopes=["read"])


def test_the_audit_trail_only_grows(acme: Account) -> None:
    with pytest.raises(Exception, match="never changed"), scoping.operator(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM tenants_auditevent")
