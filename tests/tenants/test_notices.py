"""Notices: each thing is told of once."""

import pytest

from tenants import notices, scoping
from tenants.models import Notice
from tests.conftest import Account


def test_a_thing_is_told_of_once(acme: Account, globex: Account) -> None:
    def tell(account: Account) -> bool:
        with scoping.tenant(account.tenant.pk):
            return notices.announce(tenant=account.tenant, kind="training_job.ended", once="job_1", state="succeeded")

    assert [tell(acme), tell(acme), tell(globex)] == [True, False, True]
    with scoping.tenant(acme.tenant.pk):
        (row,) = Notice.objects.for_tenant(acme.tenant)
        assert (row.kind, row.once, row.data) == ("training_job.ended", "job_1", {"state": "succeeded"})
        assert not Notice.objects.for_tenant(globex.tenant).exists()


def test_an_unknown_kind_is_a_fault_of_the_program(acme: Account) -> None:
    with scoping.tenant(acme.tenant.pk), pytest.raises(ValueError, match="no kind of notice"):
        notices.announce(tenant=acme.tenant, kind="cat.sneezed", once="1")
