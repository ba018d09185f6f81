"""The trainer: takes jobs one after the other, gives each to a child process, and writes down what becomes of it."""

import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from modelhub import evaluations, job_costs, registry, signatures, storage, training, training_limits, workers
from modelhub.datasets import parts, retention
from modelhub.job_queue import Hold, JobQueue, LeaseLost, Stop
from modelhub.models import JobState, ModelVersion, TrainerJob, TrainingJob
from modelhub.trainer import brief
from modelhub.trainer.brief import FAULT
from modelhub.trainer.process import Child, Limits
from modelhub.trainer.task import RESULT_FILE, STOP_FILE
from modelhub.workers import SECONDS_BETWEEN_LOOKS, Disconnected, Stopping, Worker
from tenants import scoping
from tenants.errors import Refusal
from tenants.ledger import archive

SECONDS_BETWEEN_REPORTS = 0.4
SECONDS_BETWEEN_SWEEPS = 6 * 3600.0
SECONDS_BETWEEN_EXPIRIES = 60.0
HOUR_SECONDS = 3600.0
MAX_LOG_LINES = 10_000
MAX_LOG_LINE = 2_000

logger = logging.getLogger(__name__)


class Trainer(Worker):
    """One process that trains one job at a time; several of them, on several machines, share the queue."""

    kind = "trainer"

    def __init__(self) -> None:
        super().__init__()
        self._last: JobQueue[Any] | None = None
        self._accrue_at = 0.0
        self._sweep_at = time.monotonic() + SECONDS_BETWEEN_SWEEPS
        self._expire_at = 0.0

    def scratch(self) -> Path:
        return _scratch()

    def run_one(self) -> bool:
        """Does the next job, if there is one: trainings and evaluations in turn, where both wait."""
        # Here, because what differs of an evaluation is made of what is below.
        from modelhub.trainer.evaluation_run import EvaluationRun

        self._accrue()
        self._expire()
        self._sweep()
        kinds: list[tuple[JobQueue[Any], type[Run]]] = [(evaluations.QUEUE, EvaluationRun), (training.QUEUE, Run)]
        for queue, run in kinds if self._last is training.QUEUE else kinds[::-1]:
            with scoping.operator():
                job = queue.claim(trainer=self.name, now=timezone.now())
            if job is not None:
                logger.info("trainer %s takes %s, attempt %d", self.name, job.pk, job.attempt)
                self._last = queue
                run(job, queue=queue, tick=self.tick).carry_out()
                return True
        return False

    def tick(self) -> None:
        super().tick()
        self._accrue()
        self._expire()

    def _accrue(self) -> None:
        """Tells the ledger of stored bytes; what fails is made up for by the next time."""
        if time.monotonic() < self._accrue_at:
            return
        self._accrue_at = time.monotonic() + min(settings.STORAGE_ACCRUAL_SECONDS, HOUR_SECONDS)
        try:
            storage.accrue(now=timezone.now())
        except Exception:
            # Nothing that is wrong there may end a training.
            logger.exception("stored bytes could not be told to the ledger; it is tried again")
            connection.close()

    def _expire(self) -> None:
        """Erases data sets whose date has come, and ends uploads that nobody went on with."""
        if time.monotonic() < self._expire_at:
            return
        self._expire_at = time.monotonic() + SECONDS_BETWEEN_EXPIRIES
        try:
            retention.erase_expired(now=timezone.now())
            parts.expire(now=timezone.now())
        except Exception:
            # Nothing that is wrong there may end a training.
            logger.exception("data sets whose date has come could not be erased; it is tried again")
            connection.close()

    def _sweep(self) -> None:
        """Removes what failed transactions left in the ledger's archive, and killed trainers among the checkpoints."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SECONDS_BETWEEN_SWEEPS
        try:
            archive.sweep(now=timezone.now())
            with scoping.operator():
                under_way = TrainingJob.across_tenants.filter(state__in=(JobState.QUEUED, JobState.RUNNING))
                live = set(under_way.values_list("pk", flat=True))
            storage.checkpoints.sweep(live=live)
        except Exception:
            logger.exception("the archive and the checkpoints could not be swept; it is tried again")
            connection.close()


@dataclass(slots=True)
class _Told:
    """What the child has said and the database has not heard yet."""

    progress: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    lines: list[tuple[int, datetime, str]] = field(default_factory=list)
    last_line: int = 0
    failed: str = ""
    checkpoint: dict[str, Any] = field(default_factory=dict)

    def add(self, message: dict[str, Any]) -> None:
        match message:
            case {"progress": dict(progress)}:
                self.progress = progress
            case {"epoch": dict(metrics)}:
                self.history.append(metrics)
            case {"log": str(text)}:
                self.log(text)
            case {"checkpoint": dict(about)}:
                self.checkpoint = about
            case {"failed": str(text)}:
                self.failed = text

    def log(self, text: str) -> None:
        if self.last_line < MAX_LOG_LINES:
            self.last_line += 1
            whole = self.last_line < MAX_LOG_LINES
            shown = text.replace("\0", "")[:MAX_LOG_LINE] if whole else "The log is full; later lines are left out."
            self.lines.append((self.last_line, timezone.now(), shown))


class Run:
    """One attempt at one training job; what is another thing for other jobs, `evaluation_run` has."""

    what = "training"
    module = "modelhub.trainer.child"

    def __init__(self, job: TrainerJob, *, queue: JobQueue[Any], tick: Callable[[], None]) -> None:
        self._job: Any = job
        self._queue = queue
        self._hold: Hold = queue.hold_of(job)
        self._tick = tick
        self._folder = _scratch() / f"{job.pk}-{secrets.token_hex(4)}"
        self._told = _Told(progress=job.progress)
        self._reported_at = 0.0
        self._stop = Stop.NO

    def carry_out(self) -> None:
        """Takes the job to its end, or back to the queue; whatever happens, nothing of it stays behind."""
        try:
            for abandoned in _scratch().glob(f"{self._job.pk}-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._carry_out_or_give_up()
        except LeaseLost:
            logger.warning("%s is another trainer's by now; nothing of this attempt is kept", self._job.pk)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _carry_out_or_give_up(self) -> None:
        try:
            self._carry_out()
        except Stopping:
            logger.info("%s goes back to the queue: the trainer stops", self._job.pk)
            self._end(self._put_back)
        except (LeaseLost, *Disconnected):
            raise
        except Refusal as refusal:
            self._fail(refusal.detail, seconds=Decimal(0))
        except Exception:
            logger.exception("%s failed by a fault of the trainer", self._job.pk)
            self._fail(f"The {self.what} could not be carried out. {FAULT}", seconds=Decimal(0))

    def _carry_out(self) -> None:
        with scoping.operator():
            paid = job_costs.paid_seconds(job=self._job, now=timezone.now())
        limits = self._prepared(paid)
        child = Child(self._folder, limits, module=self.module)
        try:
            over_limit = self._watch(child)
        finally:
            child.close()
        # One that ended while nobody looked may have lived longer than it may be billed for.
        seconds = Decimal(f"{min(child.seconds, training_limits.of(self._job.tenant.plan).seconds):.3f}")
        done = child.status == 0 and not over_limit
        if self._stop == Stop.AT_ONCE or (self._stop and not done):
            self._end(lambda: self._queue.cancelled(hold=self._hold, seconds=seconds, now=timezone.now()))
        elif done:
            self._end(lambda: self._succeed(seconds))
        else:
            self._fail(over_limit or self._told.failed or brief.how_it_died(child.status, self.what), seconds=seconds)

    def _prepared(self, paid: Decimal | None) -> Limits:
        """Writes the task into the folder; gives what the child may use."""
        with scoping.operator():
            self._told.last_line = training.last_line(hold=self._hold)
        self._told.history = list(self._job.history)
        limits = brief.limits_of(self._job, paid)
        if limits.too_long:
            words = f"{limits.too_long}, before there was a version to keep. It is not billed."
            limits = replace(limits, too_long=words)
        seconds = limits.seconds if limits.too_long else None
        task = brief.task_of(self._job, seconds=seconds, checkpoint=self._checkpoint(), meanwhile=self._report)
        task.write(self._folder)
        if self._job.keep_best:
            (self._folder / STOP_FILE).touch()
        return limits

    def _checkpoint(self) -> str:
        """The file from which this attempt goes on; none if it begins anew."""
        if not self._job.checkpoint:
            return ""
        path = storage.checkpoints.fetch(
            self._folder, tenant_id=self._job.tenant_id, job_id=self._job.pk, sha256=self._job.checkpoint["sha256"]
        )
        if path is None:
            self._told.log("The checkpoint could not be read; the training begins anew.")
            self._told.history.clear()
        return str(path or "")

    def _put_back(self) -> None:
        training.put_back(hold=self._hold)

    def _watch(self, child: Child) -> str:
        """Until the child ends or is stopped; gives the limit that it passed, in words."""
        over_limit = ""
        while child.status is None and not (over_limit or self._stop == Stop.AT_ONCE):
            for message in child.listen(SECONDS_BETWEEN_LOOKS):
                self._told.add(message)
            over_limit = child.over_limit()
            self._report()
            if self._told.checkpoint:
                self._keep_checkpoint()
            if self._stop:
                (self._folder / STOP_FILE).touch()
            self._tick()
        if child.status is None:
            child.stop()
        for message in child.rest():
            self._told.add(message)
        return over_limit

    def _keep_checkpoint(self) -> None:
        """Stores the newest checkpoint that the child wrote, then removes the one before. An outage is waited out."""
        about, self._told.checkpoint = self._told.checkpoint, {}
        file = self._folder / Path(about["file"]).name
        where = {"tenant_id": self._job.tenant_id, "job_id": self._job.pk}
        try:
            storage.checkpoints.keep(file, **where, sha256=about["sha256"])
            with scoping.operator():
                training.checkpointed(
                    hold=self._hold, sha256=about["sha256"], size=about["size"], epochs=about["epochs"],
                    history=self._told.history,
                )  # fmt: skip
        except FileNotFoundError:  # the child has written a newer one by now, and will say so
            return
        except Disconnected:
            logger.warning("%s: its checkpoint could not be told to the database", self._job.pk, exc_info=True)
            connection.close()
        else:
            storage.checkpoints.drop(**where, but=about["sha256"])

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
        told = self._told
        with scoping.operator():
            self._stop = training.report(
                hold=self._hold, progress=told.progress, history=told.history, lines=told.lines
            )
        told.lines.clear()

    def _succeed(self, seconds: Decimal) -> None:
        """The version, the job's end, its seconds on the bill and the audit rows, all in the caller's transaction."""
        job, now = training.lock(hold=self._hold), timezone.now()
        if job.cancel_requested_at is not None and not job.keep_best:
            training.cancelled(hold=self._hold, seconds=seconds, now=now)
            return
        result = json.loads((self._folder / RESULT_FILE).read_text())
        version = str(self._version(job, result, now))
        end = training.succeed if job.cancel_requested_at is None else training.cancelled
        end(
            hold=self._hold, seconds=seconds, version=version, stop_reason=brief.stop_reason(job, result),
            monitor=result["monitor"], now=now,
        )  # fmt: skip

    def _version(self, job: TrainingJob, result: Mapping[str, Any], now: datetime) -> ModelVersion:
        return registry.publish(
            tenant_id=job.tenant_id,
            model_name=job.model_name,
            recipe=job.recipe,
            files={name: self._folder / name for name in result["files"]},
            serving=result["serving"],
            signature=signatures.from_json(result["signature"]),
            preprocessing=result["preprocessing"],
            labels=result["labels"],
            decision=result["decision"],
            metrics=result["metrics"],
            parameters=job.parameters,
            conversion=result["conversion"],
            job=job,
            dataset=self._job.dataset,
            actor=self._hold.actor,
            now=now,
        )

    def _fail(self, error: str, *, seconds: Decimal) -> None:
        logger.info("%s failed: %s", self._job.pk, error)
        self._end(lambda: self._queue.fail(hold=self._hold, error=error, seconds=seconds, now=timezone.now()))

    def _end(self, write: Callable[[], None]) -> None:
        """Writes down the last that the child said, then the job's end."""

        def end() -> None:
            self._write_down()
            with scoping.operator():
                write()

        workers.written(end)


def _scratch() -> Path:
    return Path(settings.SCRATCH_DIR) / "training"
