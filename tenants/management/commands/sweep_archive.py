"""`manage.py sweep_archive`: removes archived files that no segment names, which failed transactions left."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from tenants.ledger import archive


class Command(BaseCommand):
    help = "Removes files of the archive that are a day old and belong to no segment."

    def handle(self, **options: Any) -> None:
        self.stdout.write(f"{archive.sweep(now=timezone.now())} files that no segment names are removed.")
