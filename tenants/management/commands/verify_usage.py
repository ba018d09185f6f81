"""`manage.py verify_usage TENANT MONTH`: derives a month's usage again from the archived segments."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, date, datetime, time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import accounts, pricing, scoping
from tenants.errors import Refusal
from tenants.ledger import verification

SHOWN = 20


def month(text: str) -> date:
    """The first day of the month that is written as 2026-11."""
    found = pricing.month_of(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no month; expected one as 2026-11")
    return found


class Command(BaseCommand):
    help = "Derives a tenant's usage of a month again from the archive, and says whether the rollup is equal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("month", type=month, help="as 2026-11")

    def handle(self, *, tenant: str, month: date, **options: Any) -> None:
        try:
            with scoping.operator():
                row = accounts.get_tenant(name=tenant)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        start, end = (datetime.combine(day, time(), UTC) for day in (month, pricing.month_after(month)))
        found = verification.quantities_from_archive(tenant=row, start=start, end=end)
        told = f"{found.events:,} events of {tenant} in {found.segments:,} segments of {month:%Y-%m}"
        wrong = [*found.damaged, *map(str, found.differences)]
        if wrong:
            more = f"\n… and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
            raise CommandError(f"NOT EQUAL, by {told}:\n" + "\n".join(wrong[:SHOWN]) + more)
        self.stdout.write(f"Equal: {told}, their {len(found.archived):,} hourly sums are those of the rollup.")
