"""Takes batch predictions and does them, until it is told to stop."""

from typing import Any

from django.core.management.base import BaseCommand

from inference.batch_worker.runner import BatchWorker


class Command(BaseCommand):
    """SIGTERM puts the job at hand back into the queue; a worker on this machine then goes on where it was."""

    help = "Takes batch predictions from the queue, one at a time."

    def handle(self, *args: Any, **options: Any) -> None:
        self.check(databases=["default"])
        BatchWorker().run_forever()
