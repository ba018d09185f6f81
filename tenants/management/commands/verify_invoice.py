"""`manage.py verify_invoice NUMBER`: derives an invoice again from the archived segments."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import pricing
from tenants.errors import Refusal
from tenants.invoicing import invoice_verification

SHOWN = 20


class Command(BaseCommand):
    help = "Derives an invoice again from the archived events, and says equal or names the difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", help="as INV-2026-000001")

    def handle(self, *, number: str, **options: Any) -> None:
        try:
            found = invoice_verification.verify(number=number)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        evidence = found.evidence
        told = (
            f"{found.invoice} of {found.invoice.tenant} for {found.invoice.month:%Y-%m}, "
            f"{evidence.events:,} events in {evidence.segments:,} segments"
        )
        if not found.equal:
            more = f"\n… and {len(found.wrong) - SHOWN:,} more" if len(found.wrong) > SHOWN else ""
            raise CommandError(f"NOT EQUAL: {told}\n" + "\n".join(found.wrong[:SHOWN]) + more)
        late = (
            f" {len(evidence.late):,} hourly sums arrived or grew later: they are for a later invoice."
            if evidence.late
            else ""
        )
        total = pricing.in_coins(found.invoice.total, found.invoice.currency)
        self.stdout.write(f"Equal: {told}, {total:f} {found.invoice.currency}.{late}")
