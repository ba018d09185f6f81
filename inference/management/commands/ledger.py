"""`manage.py ledger`: up to when usage is complete, who holds it up, and what waits on this machine."""

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from inference.plane import shipping, spool
from tenants.ledger import usage
from tenants.models import RejectedSegment, UsageProducer


class Command(BaseCommand):
    help = "Shows producers and their watermarks, and segments that have not arrived or were rejected."

    def handle(self, **options: Any) -> None:
        until = usage.complete_until()
        self.stdout.write(f"Usage is complete until {until:%Y-%m-%d %H:%M:%S} UTC.\n")
        self._producers()
        self._rejected()
        self._waiting(Path(settings.SPOOL_DIR))

    def _producers(self) -> None:
        self.stdout.write(f"\n{'producer':50} {'state':12} {'watermark':20} {'heard of':20}")
        for row in UsageProducer.objects.filter(drained_at=None).order_by("started_at", "id"):
            self.stdout.write(f"{row.pk:50} {_state(row):12} {_time(row.watermark):20} {_time(row.seen_at):20}")

    def _rejected(self) -> None:
        for row in RejectedSegment.objects.order_by("rejected_at"):
            self.stdout.write(
                f"\nRejected: {row.pk} on {row.host}: {row.reason}\n"
                f"  mend what is wrong, and there: manage.py retry_segment {row.pk}"
            )

    def _waiting(self, root: Path) -> None:
        folders = [path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")]
        waiting = [path for folder in folders for path in spool.segments_of(folder)]
        size = sum(path.stat().st_size for path in waiting)
        self.stdout.write(
            f"\nOn {os.uname().nodename}, in {root}: {len(waiting)} segments with {size:,} bytes wait, "
            f"{len(shipping.rejected_in(root))} are rejected."
        )


def _state(row: UsageProducer) -> str:
    if row.written_off_at is not None and (row.seen_at is None or row.seen_at <= row.written_off_at):
        return "written off"
    return "at once" if row.records_at_once else "open"


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"
