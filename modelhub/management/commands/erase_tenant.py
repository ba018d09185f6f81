"""`manage.py erase_tenant NAME`: destroys an account's data key and erases what it has stored, for good."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from modelhub import erasure
from tenants import accounts, scoping
from tenants.errors import NotFound


class Command(BaseCommand):
    help = "Suspends a tenant, destroys its data key and erases its data sets, models' files and results. No way back."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="its name")
        parser.add_argument("--yes", metavar="NAME", required=True, help="its name once more")

    def handle(self, *, tenant: str, yes: str, **options: Any) -> None:
        if yes != tenant:
            raise CommandError(f"--yes says {yes!r}; expected {tenant!r}. Nothing was erased.")
        with scoping.operator():
            try:
                row = accounts.get_tenant(name=tenant)
            except NotFound as error:
                raise CommandError(error.detail) from error
            done = erasure.erase_tenant(tenant=row, actor="operator:command", now=timezone.now())
        self.stdout.write(
            f"{tenant} is erased: its data key is destroyed; {done.datasets} data sets and {done.files} more files of "
            f"{done.size} bytes are gone."
        )
