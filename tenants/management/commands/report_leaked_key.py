"""`manage.py report_leaked_key [KEY]`: revokes a key that was found where it should not be, and tells its owner."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import scoping
from tenants.errors import Refusal
from tenants.keys import api_keys


class Command(BaseCommand):
    help = "Revokes a key that was found, and tells its owner. Without a key it reads one line: `… < file`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", nargs="?", help="the whole key; others may see it in this machine's process list")

    def handle(self, *, key: str | None, **options: Any) -> None:
        text = (key or sys.stdin.readline()).strip()
        try:
            with scoping.operator():
                revoked = api_keys.report_leak(text=text, reporter="operator:command", now=timezone.now())
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(
            "The key is revoked and its owner is told." if revoked else "There is no such key that works."
        )
