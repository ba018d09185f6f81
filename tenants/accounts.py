"""Accounts: who a request is made for, and what its maker may do."""

from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User

from tenants import audit
from tenants.errors import Conflict
from tenants.models import ApiKey, Membership, Plan, Role, Tenant

ROLE_SCOPES: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset({"predict", "read", "manage", "billing"}),
    Role.DEVELOPER: frozenset({"predict", "read", "manage"}),
    Role.BILLING: frozenset({"billing"}),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key, or a member who is logged in; always for one tenant."""

    tenant: Tenant
    actor: str
    scopes: frozenset[str]
    key: ApiKey | None = None
    role: str = ""

    is_authenticated = True


def caller_of_key(key: ApiKey) -> Caller:
    """The caller that a key stands for."""
    return Caller(tenant=key.tenant, actor=f"key:{key.pk}", scopes=frozenset(key.scopes), key=key)


def caller_of_member(membership: Membership) -> Caller:
    """The caller that a logged-in member is."""
    return Caller(
        tenant=membership.tenant,
        actor=f"member:{membership.user.get_username()}",
        scopes=ROLE_SCOPES[membership.role],
        role=membership.role,
    )


def create_tenant(*, name: str, plan: Plan, actor: str, now: datetime) -> Tenant:
    """Opens an account."""
    if Tenant.objects.filter(name=name).exists():
        raise Conflict(f"There is a tenant {name!r} already.")
    tenant = Tenant.objects.create(name=name, plan=plan, created_at=now)
    audit.record(tenant=tenant, actor=actor, verb="tenant.create", subject=tenant.pk, plan=plan.pk)
    return tenant


def add_member(*, tenant: Tenant, user: User, role: str, actor: str, now: datetime) -> Membership:
    """Gives a person a role in a tenant; asked again, changes the role."""
    membership, _ = Membership.objects.update_or_create(
        tenant=tenant, user=user, defaults={"role": role}, create_defaults={"role": role, "created_at": now}
    )
    audit.record(tenant=tenant, actor=actor, verb="member.add", subject=user.get_username(), role=role)
    return membership
