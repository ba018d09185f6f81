"""When a checkpoint is written: after each epoch that is long against the writing, and every so many seconds."""

import time
from collections.abc import Callable
from pathlib import Path

from modelhub.trainer import checkpoints
from modelhub.trainer.checkpoints import Checkpoint
from modelhub.trainer.task import Reporter

# Of the time that training takes, writing may take so much after the epochs.
SHARE = 0.1
# A guess before the first one was measured.
BYTES_PER_SECOND = 300e6


class Saver:
    """Writes checkpoints into the job's folder, where the trainer takes them away."""

    def __init__(self, folder: Path, *, report: Reporter, every_seconds: float, max_bytes: int, size: int) -> None:
        """`size`: about how many bytes one has."""
        self._folder = folder
        self._report = report
        self._every = every_seconds
        self._seconds = size / BYTES_PER_SECOND
        self._ended = time.monotonic()
        self._number = 0
        self._too_large = size > max_bytes
        if self._too_large:
            report.log(f"No checkpoints are kept: one would have {size:,} bytes, more than the {max_bytes:,} that may.")

    def after_epoch(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Writes one unless it would take too large a part of the time."""
        since = time.monotonic() - self._ended
        if since * SHARE >= self._seconds or since >= self._every:
            self._write(checkpoint)

    def within_epoch(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Writes one if the last is long ago."""
        if time.monotonic() - self._ended >= self._every:
            self._write(checkpoint)

    def _write(self, checkpoint: Callable[[], Checkpoint]) -> None:
        if self._too_large:
            return
        began = time.monotonic()
        # One that the trainer did not take yet is of no use any more.
        for earlier in self._folder.glob("checkpoint-*"):
            earlier.unlink(missing_ok=True)
        self._number += 1
        about = checkpoints.write(self._folder / f"checkpoint-{self._number}", checkpoint())
        self._report.checkpoint(about)
        self._ended = time.monotonic()
        self._seconds = self._ended - began
