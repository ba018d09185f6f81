"""`manage.py retry_segment ID`: tries a segment again that the ledger rejected, on the machine that has its file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from inference.plane import shipping
from tenants.errors import Refusal


class Command(BaseCommand):
    help = "Puts a rejected segment into the ledger, once what was wrong is mended."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("segment", help="id of the segment, as `manage.py ledger` shows it")

    def handle(self, *, segment: str, **options: Any) -> None:
        try:
            new = shipping.retry(Path(settings.SPOOL_DIR), segment)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        except shipping.UNFIT as error:
            raise CommandError(f"The ledger still cannot take it: {str(error).strip()}") from error
        self.stdout.write(f"{segment} {'is in the ledger now' if new else 'was in the ledger already'}.")
