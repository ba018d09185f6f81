"""`manage.py create_tenant NAME`: opens an account, and makes its first owner if one is named."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.models import Role, Tenant

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Opens an account for a customer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="lower-case letters, digits and hyphens; it stands for the tenant everywhere")
        parser.add_argument("--plan", default="standard", help="code of the plan (default: %(default)s)")
        parser.add_argument("--owner", metavar="EMAIL", help="a person who logs in with this address and may do all")
        parser.add_argument("--password", help="the owner's password; without it the operator sets one in the admin")
        parser.add_argument("--if-missing", action="store_true", help="succeed if the tenant is there already")

    def handle(self, *, name: str, plan: str, owner: str | None, password: str | None, **options: Any) -> None:
        if password and not owner:
            raise CommandError("--password is the owner's: name one with --owner EMAIL.")
        try:
            with scoping.operator():
                if options["if_missing"] and Tenant.objects.filter(name=name).exists():
                    self.stdout.write(f"There is a tenant {name} already.")
                else:
                    self._create(name=name, plan=plan)
                if owner:
                    self._make_owner(name=name, email=owner, password=password)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal

    def _create(self, *, name: str, plan: str) -> None:
        tenant = accounts.create_tenant(name=name, plan=accounts.plan(code=plan), actor=ACTOR, now=timezone.now())
        self.stdout.write(f"Created tenant {tenant.name} ({tenant.pk}) on plan {plan}.")

    def _make_owner(self, *, name: str, email: str, password: str | None) -> None:
        user = accounts.find_or_create_user(email=email, password=password)
        tenant = Tenant.objects.get(name=name)
        accounts.add_member(tenant=tenant, user=user, role=Role.OWNER, actor=ACTOR, now=timezone.now())
        how = "" if user.has_usable_password() else " (without a password: set one in the admin)"
        self.stdout.write(f"{email} is an owner of {name}{how}.")
