"""`manage.py close_billing_period --month 2026-10`: issues the invoices of a month that has ended."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import accounts, pricing, scoping
from tenants.errors import Refusal
from tenants.invoicing import closing
from tenants.limits import quotas

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Issues the invoices of a month to every tenant that has none for it; run again, it changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--month", required=True, help="the month, as in 2026-10; it must have ended")
        parser.add_argument("--tenant", metavar="NAME", help="only this tenant's")

    def handle(self, *, month: str, tenant: str | None, **options: Any) -> None:
        first = pricing.month_of(month)
        if first is None:
            raise CommandError(f"--month {month!r} is no month: expected one as in 2026-10.")
        try:
            with scoping.operator():
                only = accounts.get_tenant(name=tenant) if tenant else None
            done = closing.close(month=first, tenant=only, actor=ACTOR, now=quotas.database_time())
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        numbers = f", {done.first} to {done.last}" if done.invoices else ""
        self.stdout.write(f"{month}: {done.invoices} invoices issued{numbers}; nothing to bill to "
                          f"{done.nothing_to_bill} tenants.")  # fmt: skip
