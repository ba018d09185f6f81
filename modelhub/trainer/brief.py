"""What a job's child is given to do and may use, and the words for how it ended."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.conf import settings

from modelhub import artifacts, datasets, job_costs, storage, training_limits
from modelhub.models import ModelVersion, TrainerJob, TrainingJob
from modelhub.trainer.process import Limits
from modelhub.trainer.task import Column, Item, Task

SECONDS_TO_STOP = 3.0
SMALLER = " A smaller batch_size needs less."
FAULT = "The fault is on our side; please tell us the job's id."


def limits_of(job: TrainerJob, paid: Decimal | None, *, what: str = "training", advice: str | None = None) -> Limits:
    """What a job may use by its tenant's plan; its budget leaves room for stopping it.

    `too_long` says so where it is the budget that bounds the job, without a full stop.
    """
    allowed = training_limits.of(job.tenant.plan)
    limits = Limits(allowed.seconds, allowed.memory_bytes, what=what)
    limits = replace(limits, memory_advice=SMALLER) if advice is None else replace(limits, advice=advice)
    if paid is None or float(paid) - SECONDS_TO_STOP > limits.seconds:
        return limits
    words = f"The {what} was stopped at its budget of {job_costs.budget_of(job)}, which pays {paid} seconds"
    return replace(limits, seconds=max(0.0, float(paid) - SECONDS_TO_STOP), too_long=words)


def stop_reason(job: TrainingJob, result: Mapping[str, Any]) -> str:
    """Why a version learned less than was asked for, in words; empty if it did not."""
    words = {"deadline": f"to keep within its budget of {job_costs.budget_of(job)}", "stop": "because it was cancelled"}
    if result["ended_by"] not in words:
        late = "The training was cancelled when it had learned all that was asked for; the version is whole."
        return "" if job.cancel_requested_at is None else late
    return (
        f"The training was stopped in epoch {result['epochs']} of {job.parameters['epochs']} "
        f"{words[result['ended_by']]}; the version is the best of what it had learned by then, "
        f"that of epoch {result['best_epoch']}."
    )


def task_of(job: TrainingJob, *, seconds: float | None, checkpoint: str, meanwhile: Callable[[], None]) -> Task:
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
        checkpoint=checkpoint,
        checkpoint_seconds=settings.TRAINING_CHECKPOINT_SECONDS,
        max_checkpoint_bytes=settings.TRAINING_MAX_CHECKPOINT_BYTES,
        warm_start=str(job.warm_start or ""),
        warm_files=files_of(job.warm_start) if job.warm_start else {},
    )


def files_of(version: ModelVersion) -> dict[str, str]:
    """The files of a version on this machine, each after its seal and its sha256 were verified."""
    about = {"tenant_id": version.tenant_id, "manifest": version.manifest, "manifest_seal": version.manifest_seal}
    return {name: str(artifacts.checked_path(**about, file=name)) for name in version.manifest["files"]}


def how_it_died(status: int | None, what: str) -> str:
    """Words for a child that ended without a word of its own."""
    if status == -signal.SIGKILL:
        return f"The {what} was ended by the machine, most likely because its memory ran out. {FAULT}"
    if status is not None and status < 0:
        return f"The {what} broke off with {signal.Signals(-status).name}. " + FAULT
    return f"The {what} broke off with the status {status}. " + FAULT
