"""`manage.py erase_expired_datasets`: erases the data sets whose date has come, as the trainers do every minute."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from modelhub.datasets import parts, retention


class Command(BaseCommand):
    help = "Erases the content of data sets whose retain_until has come, and ends uploads that nobody went on with."

    def handle(self, **options: Any) -> None:
        now = timezone.now()
        self.stdout.write(f"{retention.erase_expired(now=now)} data sets are erased.")
        self.stdout.write(f"{parts.expire(now=now)} uploads in parts are ended.")
