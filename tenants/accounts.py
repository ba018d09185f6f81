"""Accounts: who a request is made for, and what its maker may do."""

import re
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from tenants import audit
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.keys import api_keys
from tenants.keys.api_keys import Rights
from tenants.models import ApiKey, Membership, Plan, Role, Tenant
from tenants.pricing import plan_history

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?")
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
    membership: Membership | None = None

    is_authenticated = True

    @property
    def rights(self) -> Rights:
        """What the caller may give to a key at most."""
        return api_keys.rights_of(self.key) if self.key else Rights(self.scopes)

    @property
    def id(self) -> str:
        """The public id of the key, or of the membership."""
        who = self.key or self.membership
        return who.pk if who else ""

    @property
    def name(self) -> str:
        """The name of the key, or what the member logs in with."""
        return self.key.name if self.key else self.actor.partition(":")[2]


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
        membership=membership,
    )


def create_tenant(*, name: str, plan: Plan, actor: str, now: datetime) -> Tenant:
    """Opens an account."""
    if not NAME.fullmatch(name):
        message = "Expected 1 to 60 lower-case letters, digits and hyphens, a letter or digit first and last."
        raise Invalid(f"{name!r} cannot be the name of a tenant. {message}", errors=(FieldError("name", message),))
    tenant, created = Tenant.objects.get_or_create(name=name, defaults={"plan": plan, "created_at": now})
    if not created:
        raise Conflict(f"There is a tenant {name!r} already.")
    audit.record(tenant=tenant, actor=actor, verb="tenant.create", subject=tenant.pk, plan=plan.pk)
    return tenant


def get_tenant(*, name: str) -> Tenant:
    """The tenant of this name."""
    tenant = Tenant.objects.select_related("plan").filter(name=name).first()
    if tenant is None:
        raise NotFound(f"There is no tenant {name!r}.")
    return tenant


def plan(*, code: str) -> Plan:
    """The plan of this code."""
    found = Plan.objects.filter(pk=code).first()
    if found is None:
        known = ", ".join(Plan.objects.order_by("pk").values_list("pk", flat=True))
        raise NotFound(f"There is no plan {code!r}; expected one of {known}.")
    return found


def suspend(*, tenant: Tenant, actor: str) -> Tenant:
    """Has a tenant refused everywhere until it is activated again. Asked twice, changes nothing."""
    return _switch(tenant, active=False, verb="tenant.suspend", actor=actor)


def activate(*, tenant: Tenant, actor: str) -> Tenant:
    """Lets a suspended tenant in again. Asked twice, changes nothing."""
    return _switch(tenant, active=True, verb="tenant.activate", actor=actor)


def change_plan(*, tenant: Tenant, plan: Plan, actor: str, now: datetime) -> Tenant:
    """Moves a tenant to another plan: its limits hold at once, its prices from the next full hour on."""
    with transaction.atomic():
        row = Tenant.objects.select_for_update(no_key=True, of=["self"]).select_related("plan").get(pk=tenant.pk)
        before = row.plan_id
        if before != plan.pk:
            plan_history.add(tenant=row, after=plan, actor=actor, now=now)
            Tenant.objects.filter(pk=row.pk).update(plan=plan)
            audit.record(
                tenant=row, actor=actor, verb="tenant.change_plan", subject=row.pk, before=before, after=plan.pk
            )
    tenant.refresh_from_db()
    return tenant


def add_member(*, tenant: Tenant, user: User, role: str, actor: str, now: datetime) -> Membership:
    """Gives a person a role in a tenant; asked again, changes the role."""
    membership, _ = Membership.objects.update_or_create(
        tenant=tenant, user=user, defaults={"role": role}, create_defaults={"role": role, "created_at": now}
    )
    audit.record(tenant=tenant, actor=actor, verb="member.add", subject=user.get_username(), role=role)
    return membership


def remove_member(*, membership: Membership, actor: str) -> None:
    """Takes a person's role in a tenant away; the person stays a user."""
    tenant, subject, role = membership.tenant_id, membership.user.get_username(), membership.role
    removed, _ = Membership.objects.filter(pk=membership.pk).delete()
    if removed:
        audit.record(tenant=tenant, actor=actor, verb="member.remove", subject=subject, role=role)


def find_or_create_user(*, email: str, password: str | None = None) -> User:
    """The person who logs in with this address; made if there is none, without a password if none is given."""
    address = email.strip().lower()
    found = User.objects.filter(username=address).first()
    if found is not None:
        return found
    try:
        validate_email(address)
        if password is not None:
            validate_password(password, User(username=address, email=address))
    except ValidationError as error:
        raise Invalid(f"{email}: {' '.join(error.messages)}") from error
    return User.objects.create_user(address, email=address, password=password)


def _switch(tenant: Tenant, *, active: bool, verb: str, actor: str) -> Tenant:
    if Tenant.objects.filter(pk=tenant.pk).exclude(active=active).update(active=active):
        audit.record(tenant=tenant, actor=actor, verb=verb, subject=tenant.pk)
    tenant.refresh_from_db()
    return tenant
