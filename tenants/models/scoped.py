"""The base of every row that belongs to a tenant: `objects.for_tenant()` is the door for a customer's request."""

from typing import Any, ClassVar, NoReturn, Self, TypeVar

from django.db import models

from tenants.models.accounts import Tenant

Row = TypeVar("Row", bound=models.Model)


class UnscopedQuery(RuntimeError):
    """A query on a tenant's rows was begun without saying whose; start it with `for_tenant(...)`."""


class TenantManager(models.Manager[Row]):
    """Refuses a query that names no tenant."""

    def get_queryset(self) -> NoReturn:
        raise UnscopedQuery(f"{self.model.__name__}.objects needs for_tenant(...) first")

    def for_tenant(self, tenant: Tenant | str) -> models.QuerySet[Row]:
        tenant_id = tenant if isinstance(tenant, str) else tenant.pk
        return super().get_queryset().filter(tenant_id=tenant_id)

    def create(self, **values: Any) -> Row:
        if not ({"tenant", "tenant_id"} & values.keys()):
            raise UnscopedQuery(f"{self.model.__name__}.objects.create needs a tenant")
        return super().get_queryset().create(**values)


class TenantOwned(models.Model):
    """A row of one tenant. `across_tenants` is for operator code only, and row-level security stands beneath both."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", editable=False)

    objects: ClassVar[TenantManager[Self]] = TenantManager()
    across_tenants: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        abstract = True
        base_manager_name = "across_tenants"
        default_manager_name = "across_tenants"
