"""The batch worker: takes jobs one after the other, gives each to a child process, and writes down what becomes of it.

It works as the trainer does (`modelhub/trainer/runner.py`); but a job that another worker left goes on where its
results end, if they are on this machine.
"""

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from inference import batch_predictions
from inference.batch_predictions import Checkpoint, Hold, LeaseLost
from inference.batch_worker import task as tasks
from inference.batch_worker.task import LINES_FILE, Task
from inference.models import BatchPrediction
from modelhub import artifacts, datasets, storage, workers
from modelhub.trainer.process import Child, Limits
from modelhub.trainer.task import Item
from modelhub.workers import SECONDS_BETWEEN_LOOKS, Disconnected, Stopping, Worker
from tenants import scoping

SECONDS_BETWEEN_REPORTS = 0.4
CHILD = "inference.batch_worker.child"
FAULT = "The fault is on our side; please tell us the job's id."

logger = logging.getLogger(__name__)


class BatchWorker(Worker):
    """One process that does one batch prediction at a time."""

    kind = "batch worker"

    def scratch(self) -> Path:
        return _scratch()

    def run_one(self) -> bool:
        """Does the next job, if there is one."""
        with scoping.operator():
            job = batch_predictions.claim(worker=self.name, now=timezone.now())
        if job is None:
            return False
        logger.info("batch worker %s takes %s, attempt %d", self.name, job.pk, job.attempt)
        _Run(job, tick=self.tick).carry_out()
        return True


class _Run:
    """One attempt at one job."""

    def __init__(self, job: BatchPrediction, *, tick: Callable[[], None]) -> None:
        self._job = job
        self._hold: Hold = batch_predictions.hold_of(job)
        self._tick = tick
        self._folder = _scratch() / f"{job.pk}-{secrets.token_hex(4)}"
        self._checkpoint = Checkpoint()
        self._paid_rows: int | None = None
        self._failed = ""
        self._reported_at = 0.0
        self._cancel_wanted = False

    def carry_out(self) -> None:
        """Takes the job to its end, or back to the queue; the results of one put back stay for who takes it next."""
        keep = False
        try:
            self._folder.mkdir(parents=True)
            keep = self._carry_out_or_give_up()
        except LeaseLost:
            logger.warning("%s is another worker's by now; nothing of this attempt is kept", self._job.pk)
        finally:
            if not keep:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _carry_out_or_give_up(self) -> bool:
        """Whether the job is to go on later with what is in the folder."""
        try:
            self._carry_out()
        except Stopping:
            logger.info("%s goes back to the queue: the worker stops", self._job.pk)
            workers.written(self._put_back)
            return True
        except (LeaseLost, *Disconnected):
            raise
        except Exception:
            logger.exception("%s failed by a fault of the worker", self._job.pk)
            self._fail(f"The batch prediction could not be carried out. {FAULT}")
        return False

    def _carry_out(self) -> None:
        self._checkpoint = _recovered(self._job, into=self._folder)
        self._write_down()
        with scoping.operator():
            self._paid_rows = batch_predictions.paid_rows(job=self._job, now=timezone.now())
        if not (self._cancel_wanted or self._is_done()):
            self._predict()
        if self._cancel_wanted or self._is_done():
            self._finish()

    def _is_done(self) -> bool:
        """Whether every row has its line, or as many are answered as the budget pays."""
        answered = self._checkpoint.done - self._checkpoint.failed
        return self._checkpoint.done == self._job.rows_total or (
            self._paid_rows is not None and answered >= self._paid_rows
        )

    def _predict(self) -> None:
        """Has the child do the rows that are left; it fails the job if it cannot."""
        task = _task(self._job, self._checkpoint, most_answers=self._paid_rows, meanwhile=self._report)
        task.write(self._folder)
        limits = Limits(
            settings.BATCH_MAX_SECONDS, settings.BATCH_MAX_MEMORY_BYTES, what="batch prediction", advice=""
        )  # fmt: skip
        child = Child(self._folder, limits, module=CHILD)
        try:
            over_limit = self._watch(child)
        finally:
            child.close()
        if self._cancel_wanted or (child.status == 0 and self._is_done()):
            return
        self._fail(over_limit or self._failed or f"The batch broke off with the status {child.status}. {FAULT}")
        self._checkpoint = Checkpoint()

    def _watch(self, child: Child) -> str:
        """Until the child ends or is stopped; gives the limit that it passed, in words."""
        over_limit = ""
        while child.status is None and not (over_limit or self._cancel_wanted):
            for message in child.listen(SECONDS_BETWEEN_LOOKS):
                self._hear(message)
            over_limit = child.over_limit()
            self._report()
            self._tick()
        if child.status is None:
            child.stop()
        for message in child.rest():
            self._hear(message)
        return over_limit

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"checkpoint": dict(told)}:
                self._checkpoint = Checkpoint(**told)
            case {"log": str(text)}:
                logger.info("%s: %s", self._job.pk, text)
            case {"failed": str(text)}:
                self._failed = text

    def _report(self) -> None:
        """Tells the database how far the job is, and asks whether it is still wanted. An outage is waited out."""
        if time.monotonic() < self._reported_at + SECONDS_BETWEEN_REPORTS:
            return
        try:
            self._write_down()
        except Disconnected:
            logger.warning("%s: the database cannot be reached; the child goes on", self._job.pk, exc_info=True)
            connection.close()
        self._reported_at = time.monotonic()

    def _write_down(self) -> None:
        with scoping.operator():
            self._cancel_wanted = batch_predictions.report(hold=self._hold, checkpoint=self._checkpoint)

    def _put_back(self) -> None:
        with scoping.operator():
            batch_predictions.report(hold=self._hold, checkpoint=self._checkpoint)
            batch_predictions.put_back(hold=self._hold)

    def _finish(self) -> None:
        """The job's end, its stored results, their bytes and its rows on the bill, all in one transaction or none."""
        lines = self._folder / LINES_FILE
        os.truncate(lines, self._checkpoint.size)

        def write() -> None:
            with storage.Staging(tenant_id=self._job.tenant_id) as staging:
                blob = staging.add(lines)
                if self._checkpoint.size and blob.sha256 != self._checkpoint.sha256:
                    raise ValueError(f"the results of {self._job.pk} are not those that its child wrote")
                with scoping.operator():
                    batch_predictions.finish(
                        hold=self._hold, checkpoint=self._checkpoint, results=staging, now=timezone.now()
                    )

        workers.written(write)

    def _fail(self, error: str) -> None:
        logger.info("%s failed: %s", self._job.pk, error)

        def write() -> None:
            with scoping.operator():
                batch_predictions.fail(hold=self._hold, error=error, now=timezone.now())

        workers.written(write)


def _recovered(job: BatchPrediction, *, into: Path) -> Checkpoint:
    """The results of the job that are on this machine, put into the folder, as far as they are what was reported."""
    wanted = batch_predictions.checkpoint_of(job)
    lines = into / LINES_FILE
    lines.touch()
    found = Checkpoint()
    for left in _scratch().glob(f"{job.pk}-*"):
        if left == into:
            continue
        # A worker that lost its lease but lives may still write there: only what was reported is copied, and checked.
        with contextlib.suppress(FileNotFoundError):
            digest = tasks.digest_of_first(wanted.size, left / LINES_FILE)
            if wanted.size and found != wanted and digest is not None and digest.hexdigest() == wanted.sha256:
                shutil.copyfile(left / LINES_FILE, lines)
                os.truncate(lines, wanted.size)
                found = wanted
        shutil.rmtree(left, ignore_errors=True)
    if wanted.size:
        logger.info("%s goes on after row %d of %d", job.pk, found.done, job.rows_total)
    return found


def _task(
    job: BatchPrediction, checkpoint: Checkpoint, *, most_answers: int | None, meanwhile: Callable[[], None]
) -> Task:
    """All that the child is told. The version's files are checked, and all files are on this machine then."""
    version = job.version
    serving = version.manifest["serving"]
    others = {one["file"] for one in serving.get("candidates", [])} - {serving["file"]}

    def checked(file: str) -> str:
        path = artifacts.checked_path(
            tenant_id=job.tenant_id, manifest=version.manifest, manifest_seal=version.manifest_seal, file=file
        )
        return str(path)

    def fetched(item: datasets.Item) -> Item:
        meanwhile()
        path = storage.local_path(tenant_id=job.tenant_id, sha256=item.sha256)
        return Item(str(path), item.name, target=item.target, group=item.group, facts=item.facts)

    return Task(
        engine=serving["engine"],
        file=serving["file"],
        files={file: checked(file) for file in version.manifest["files"] if file not in others},
        recipe=version.recipe,
        manifest=version.manifest,
        items=[fetched(item) for item in datasets.load_manifest(job.dataset).items],
        rows=job.rows_total,
        done=checkpoint.done,
        failed=checkpoint.failed,
        max_pixels=settings.PICTURE_MAX_PIXELS,
        most_answers=most_answers,
    )


def _scratch() -> Path:
    return Path(settings.SCRATCH_DIR) / "batches"
