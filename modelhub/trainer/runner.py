"""The trainer: takes jobs one after the other, gives each to a child process, and writes down what becomes of it."""

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from modelhub import datasets, registry, signatures, storage, training
from modelhub.models import TrainingJob
from modelhub.trainer.process import Child, Limits
from modelhub.trainer.task import RESULT_FILE, Column, Item, Task
from modelhub.training import Hold, LeaseLost
from tenants import archive, scoping

SECONDS_BETWEEN_CLAIMS = 0.5
SECONDS_BETWEEN_REPORTS = 0.4
SECONDS_BETWEEN_SWEEPS = 6 * 3600.0
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_RETRY = 60.0
SECONDS_TO_STOP = 3.0
HOUR_SECONDS = 3600.0
MAX_LOG_LINES = 10_000
MAX_LOG_LINE = 2_000
FAULT = "The fault is on our side; please tell us the job's id."

logger = logging.getLogger(__name__)

Connection = (OperationalError, InterfaceError)


class Stopping(Exception):
    """The trainer was told to stop."""


class Trainer:
    """One process that trains one job at a time; several of them, on several machines, share the queue."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stopping = False
        self._accrue_at = 0.0
        self._sweep_at = time.monotonic() + SECONDS_BETWEEN_SWEEPS

    def stop(self, *_: object) -> None:
        """From now on no job is taken, and the one at hand is put back."""
        self._stopping = True

    def run_forever(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        _remove_left_behind()
        logger.info("trainer %s waits for jobs", self.name)
        while not self._stopping:
            try:
                if not self.run_one():
                    self._wait(SECONDS_BETWEEN_CLAIMS)
            except Connection:
                logger.warning("trainer %s cannot reach the database", self.name, exc_info=True)
                connection.close()
                self._wait(SECONDS_BETWEEN_CLAIMS)
        logger.info("trainer %s stops", self.name)

    def run_one(self) -> bool:
        """Does the next job, if there is one."""
        self._accrue()
        self._sweep()
        with scoping.operator():
            job = training.claim(trainer=self.name, now=timezone.now())
        if job is None:
            return False
        logger.info("trainer %s takes %s, attempt %d", self.name, job.pk, job.attempt)
        _Run(job, tick=self._tick).carry_out()
        return True

    def _tick(self) -> None:
        """What goes on while a job runs."""
        if self._stopping:
            raise Stopping
        self._accrue()

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

    def _sweep(self) -> None:
        """Removes what failed transactions left in the ledger's archive."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SECONDS_BETWEEN_SWEEPS
        try:
            archive.sweep(now=timezone.now())
        except Exception:
            logger.exception("the archive could not be swept; it is tried again")
            connection.close()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)


@dataclass(slots=True)
class _Told:
    """What the child has said and the database has not heard yet."""

    progress: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    lines: list[tuple[int, datetime, str]] = field(default_factory=list)
    last_line: int = 0
    failed: str = ""

    def add(self, message: dict[str, Any]) -> None:
        match message:
            case {"progress": dict(progress)}:
                self.progress = progress
            case {"epoch": dict(metrics)}:
                self.history.append(metrics)
            case {"log": str(text)}:
                self.log(text)
            case {"failed": str(text)}:
                self.failed = text

    def log(self, text: str) -> None:
        if self.last_line < MAX_LOG_LINES:
            self.last_line += 1
            whole = self.last_line < MAX_LOG_LINES
            shown = text.replace("\0", "")[:MAX_LOG_LINE] if whole else "The log is full; later lines are left out."
            self.lines.append((self.last_line, timezone.now(), shown))


class _Run:
    """One attempt at one job."""

    def __init__(self, job: TrainingJob, *, tick: Callable[[], None]) -> None:
        self._job = job
        self._hold: Hold = training.hold_of(job)
        self._tick = tick
        self._folder = _scratch() / f"{job.pk}-{secrets.token_hex(4)}"
        self._told = _Told(progress=job.progress)
        self._reported_at = 0.0
        self._cancel_wanted = False

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
            self._end(lambda: training.put_back(hold=self._hold))
        except (LeaseLost, *Connection):
            raise
        except Exception:
            logger.exception("%s failed by a fault of the trainer", self._job.pk)
            self._fail(f"The training could not be carried out. {FAULT}", seconds=Decimal(0))

    def _carry_out(self) -> None:
        with scoping.operator():
            self._told.last_line = training.last_line(hold=self._hold)
            paid = training.paid_seconds(job=self._job, now=timezone.now())
        limits = _limits(self._job, paid)
        task = _task(self._job, seconds=limits.seconds if limits.too_long else None, meanwhile=self._report)
        task.write(self._folder)
        child = Child(self._folder, limits)
        try:
            over_limit = self._watch(child)
        finally:
            child.close()
        # One that ended while nobody looked may have lived longer than it may be billed for.
        seconds = Decimal(f"{min(child.seconds, settings.TRAINING_MAX_SECONDS):.3f}")
        if self._cancel_wanted:
            self._end(lambda: training.cancelled(hold=self._hold, seconds=seconds, now=timezone.now()))
        elif child.status == 0 and not over_limit:
            self._end(lambda: self._succeed(seconds))
        else:
            self._fail(over_limit or self._told.failed or _how_it_died(child.status), seconds=seconds)

    def _watch(self, child: Child) -> str:
        """Until the child ends or is stopped; gives the limit that it passed, in words."""
        over_limit = ""
        while child.status is None and not (over_limit or self._cancel_wanted):
            for message in child.listen(SECONDS_BETWEEN_LOOKS):
                self._told.add(message)
            over_limit = child.over_limit()
            self._report()
            self._tick()
        if child.status is None:
            child.stop()
        for message in child.rest():
            self._told.add(message)
        return over_limit

    def _report(self) -> None:
        """Tells the database how far the job is, and asks whether it is still wanted. An outage is waited out."""
        if time.monotonic() < self._reported_at + SECONDS_BETWEEN_REPORTS:
            return
        try:
            self._write_down()
        except Connection:
            logger.warning("%s: the database cannot be reached; the child goes on", self._job.pk, exc_info=True)
            connection.close()
        self._reported_at = time.monotonic()

    def _write_down(self) -> None:
        told = self._told
        with scoping.operator():
            self._cancel_wanted = training.report(
                hold=self._hold, progress=told.progress, history=told.history, lines=told.lines
            )
        told.lines.clear()

    def _succeed(self, seconds: Decimal) -> None:
        """The version, the job's end, its seconds on the bill and the audit rows, all in the caller's transaction."""
        result = json.loads((self._folder / RESULT_FILE).read_text())
        now = timezone.now()
        job = training.lock(hold=self._hold)
        if job.cancel_requested_at is None:
            version = registry.publish(
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
            reason = _stop_reason(self._job, result)
            training.succeed(hold=self._hold, seconds=seconds, version=str(version), stop_reason=reason, now=now)
        else:
            training.cancelled(hold=self._hold, seconds=seconds, now=now)

    def _fail(self, error: str, *, seconds: Decimal) -> None:
        logger.info("%s failed: %s", self._job.pk, error)
        self._end(lambda: training.fail(hold=self._hold, error=error, seconds=seconds, now=timezone.now()))

    def _end(self, write: Callable[[], None]) -> None:
        """Writes down the last that the child said, then the job's end, waiting out an outage for a minute."""
        until = time.monotonic() + SECONDS_TO_RETRY
        while True:
            try:
                self._write_down()
                with scoping.operator():
                    write()
                return
            except Connection:
                connection.close()
                if time.monotonic() > until:
                    raise
                time.sleep(SECONDS_BETWEEN_CLAIMS)


def _limits(job: TrainingJob, paid: Decimal | None) -> Limits:
    """What a job may use; its budget leaves room for stopping it."""
    limits = Limits(settings.TRAINING_MAX_SECONDS, settings.TRAINING_MAX_MEMORY_BYTES)
    if paid is None or float(paid) - SECONDS_TO_STOP > limits.seconds:
        return limits
    words = (
        f"The training was stopped at its budget of {training.budget_of(job)}, which pays {paid} seconds, "
        "before there was a version to keep. It is not billed."
    )
    return replace(limits, seconds=max(0.0, float(paid) - SECONDS_TO_STOP), too_long=words)


def _stop_reason(job: TrainingJob, result: Mapping[str, Any]) -> str:
    """Why a version learned less than was asked for, in words; empty if it did not."""
    words = {"deadline": f"to keep within its budget of {training.budget_of(job)}", "stop": "because it was cancelled"}
    if result["ended_by"] not in words:
        return ""
    return (
        f"The training was stopped in epoch {result['epochs']} of {job.parameters['epochs']} "
        f"{words[result['ended_by']]}; the version is the best of what it had learned by then, "
        f"that of epoch {result['best_epoch']}."
    )


def _task(job: TrainingJob, *, seconds: float | None, meanwhile: Callable[[], None]) -> Task:
    """All that the child is told. The data set's files are on this machine then, which may take its time."""
    manifest = datasets.load_manifest(job.dataset)

    def fetched(item: datasets.Item) -> Item:
        meanwhile()
        file = storage.local_path(tenant_id=job.tenant_id, sha256=item.sha256)
        return Item(str(file), item.name, target=item.target, group=item.group, facts=item.facts)

    return Task(
        recipe=job.recipe,
        parameters=job.parameters,
        kind=manifest.kind,
        labels=sorted(manifest.classes),
        columns=[Column(column.name, column.type) for column in manifest.columns],
        train=[fetched(item) for item in manifest.of("train")],
        validation=[fetched(item) for item in manifest.of("validation")],
        max_pixels=settings.PICTURE_MAX_PIXELS,
        seconds=seconds,
    )


def _how_it_died(status: int | None) -> str:
    """Words for a child that ended without a word of its own."""
    if status == -signal.SIGKILL:
        return "The training was ended by the machine, most likely because its memory ran out. " + FAULT
    if status is not None and status < 0:
        return f"The training broke off with {signal.Signals(-status).name}. " + FAULT
    return f"The training broke off with the status {status}. " + FAULT


def _scratch() -> Path:
    return Path(settings.SCRATCH_DIR) / "training"


def _remove_left_behind() -> None:
    """Removes the folders of trainers that were killed here: those that nobody has written to for a day."""
    horizon = time.time() - 24 * 3600
    for folder in _scratch().glob("job_*"):
        if folder.stat().st_mtime < horizon:
            shutil.rmtree(folder, ignore_errors=True)
