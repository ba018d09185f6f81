"""`manage.py verify_audit [--tenant NAME]`: follows the chain of the audit trail, and ends with 1 if it is broken."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import accounts, audit_chain, scoping
from tenants.errors import Refusal
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Follows the chains of the audit trail; names the first row of each that was tampered with."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", help="name of one tenant; without it, all of them")

    def handle(self, *, tenant: str | None, **options: Any) -> None:
        try:
            with scoping.operator():
                tenants = [accounts.get_tenant(name=tenant)] if tenant else list(Tenant.objects.order_by("name"))
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        broken = [each.name for each in tenants if not self._follow(each)]
        if not tenant and not self._follow(None):
            broken.append("the operators")
        if broken:
            raise CommandError(f"The audit trail of {', '.join(broken)} was tampered with.")
        everything = f"The audit trail of {len(tenants)} tenants and of the operators is whole."
        self.stdout.write("It is whole." if tenant else everything)

    def _follow(self, tenant: Tenant | None) -> bool:
        with scoping.operator():
            chain = audit_chain.verify(tenant=tenant)
        name = tenant.name if tenant else "the operators"
        if chain.fault:
            self.stdout.write(f"{name}: BROKEN after {chain.rows} rows. {chain.fault}")
        else:
            self.stdout.write(f"{name}: {chain.rows} rows, ending in {chain.hash or 'nothing'}")
        return not chain.fault
