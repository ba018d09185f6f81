"""`manage.py set_spend_cap TENANT AMOUNT`: the operator's cap on what a tenant's month may cost."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.limits import spend_caps
from tenants.models import SetBy

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Caps what a tenant's month may cost; the tenant's own cap holds beside it, and the lower one wins."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("amount", help="in the plan's currency, as 250.00; or none to take the operator's cap away")

    def handle(self, *, tenant: str, amount: str, **options: Any) -> None:
        try:
            with scoping.operator():
                owner = accounts.get_tenant(name=tenant)
                if amount == "none":
                    spend_caps.remove(tenant=owner, set_by=SetBy.OPERATOR, actor=ACTOR)
                else:
                    spend_caps.put(tenant=owner, amount=amount, set_by=SetBy.OPERATOR, actor=ACTOR)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        said = "no cap" if amount == "none" else f"a cap of {amount} {owner.plan.currency} a month"
        self.stdout.write(f"The operator has set {said} for {tenant}.")
