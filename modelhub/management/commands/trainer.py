"""Takes training jobs and does them, until it is told to stop."""

from typing import Any

from django.core.management.base import BaseCommand

from modelhub.trainer.runner import Trainer


class Command(BaseCommand):
    """SIGTERM puts the job at hand back into the queue; another trainer then begins it anew."""

    help = "Takes training jobs from the queue, one at a time, and tells the ledger of stored bytes."

    def handle(self, *args: Any, **options: Any) -> None:
        self.check(databases=["default"])
        Trainer().run_forever()
