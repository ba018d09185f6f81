"""`manage.py grant_credit TENANT AMOUNT`: gives a tenant credit that its next invoices use."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.invoicing import credit

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Gives a tenant credit: its next invoices use it before they ask for money."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("amount", help="in the currency that the tenant is billed in, as in 25.00")
        parser.add_argument("--currency", help="to be sure: refused if the tenant is billed in another one")
        parser.add_argument("--expires", metavar="DATE", help="the day on which it ends, as in 2026-12-31; else never")
        parser.add_argument("--reason", default="credit", help="what it is for (default: %(default)s)")

    def handle(self, *, tenant: str, amount: str, **options: Any) -> None:
        try:
            expires = datetime.fromisoformat(options["expires"]) if options["expires"] else None
        except ValueError as error:
            raise CommandError(
                f"--expires {options['expires']!r} is no date: expected one as in 2026-12-31."
            ) from error
        if expires is not None and expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        try:
            with scoping.operator():
                row = accounts.get_tenant(name=tenant)
                entry = credit.grant(
                    tenant=row, amount=amount, currency=options["currency"] or row.plan.currency, expires_at=expires,
                    reason=options["reason"], actor=ACTOR, now=timezone.now(),
                )  # fmt: skip
                left = credit.balance(tenant=row, now=timezone.now())
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(f"{tenant} was given {entry.amount:f} {entry.currency} and has {left:f} {entry.currency}.")
