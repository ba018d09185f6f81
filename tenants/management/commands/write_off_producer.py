"""`manage.py write_off_producer ID --reason …`: gives up the events of a dead producer whose disk is lost."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants.errors import Refusal
from tenants.ledger import producers

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Gives up what a dead producer has not delivered, so that periods can be closed without it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("producer", help="id of the producer, as `manage.py ledger` shows it")
        parser.add_argument("--reason", required=True, help="what happened; it is kept")

    def handle(self, *, producer: str, reason: str, **options: Any) -> None:
        try:
            row = producers.write_off(producer=producer, reason=reason, actor=ACTOR)
        except Refusal as refusal:
            raise CommandError(" ".join([refusal.detail, *(error.message for error in refusal.errors)])) from refusal
        self.stdout.write(f"{row.pk} is written off: its events after {row.watermark or row.started_at} may be lost.")
