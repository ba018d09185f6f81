"""Batch predictions: asked for, claimed by a worker, reported on, ended. Every change of state is here."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from django.conf import settings
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from inference.models import BatchPrediction, Deployment
from modelhub import recipes, storage
from modelhub.models import Dataset, DatasetState, JobState
from modelhub.storage import Staging
from tenants import audit, spend_caps, usage
from tenants.errors import Conflict, FieldError, Invalid, NotFound, OverQuota
from tenants.models import Meter, Tenant
from tenants.usage import UsageEvent

MAX_ATTEMPTS = 3
PRODUCER = "batch"


@dataclass(frozen=True, slots=True)
class Hold:
    """A worker's hold of a job: whoever reports with another one is refused."""

    job_id: str
    tenant_id: str
    worker: str
    attempt: int

    @property
    def actor(self) -> str:
        return f"batch_worker:{self.worker}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The results so far: how many rows they hold, how many of those are errors, and the file's bytes and sha256."""

    done: int = 0
    failed: int = 0
    size: int = 0
    sha256: str = ""


class LeaseLost(Exception):
    """Another worker has the job by now; nothing was changed."""


def create(*, tenant: Tenant, deployment: str, dataset_id: str, actor: str, now: datetime) -> BatchPrediction:
    """Queues a job: all rows will be answered by the version that the deployment serves at this moment."""
    served = _deployment(tenant, deployment)
    dataset = _dataset(tenant, dataset_id)
    _check_fits(served, dataset)
    _check_queue(tenant)
    spend_caps.check(tenant=tenant, now=now)
    job = BatchPrediction.objects.create(
        tenant=tenant,
        deployment_name=served.name,
        version=served.version,
        dataset=dataset,
        rows_total=dataset.items,
        created_by=actor,
        created_at=now,
    )
    audit.record(
        tenant=tenant,
        actor=actor,
        verb="batch_prediction.create",
        subject=job.pk,
        deployment=served.name,
        version=str(served.version),
        dataset=dataset.pk,
    )
    return job


def rows(*, tenant: Tenant | str) -> QuerySet[BatchPrediction]:
    """The tenant's jobs."""
    return BatchPrediction.objects.for_tenant(tenant).select_related("version__model")


def get(*, tenant: Tenant | str, job_id: str) -> BatchPrediction:
    """The tenant's job of this id."""
    row = rows(tenant=tenant).filter(pk=job_id).first()
    if row is None:
        raise NotFound(f"There is no batch prediction {job_id!r}.")
    return row


def cancel(*, job: BatchPrediction, actor: str, now: datetime) -> BatchPrediction:
    """A queued job ends at once and without results; a running one soon, with those it has. Twice changes nothing."""
    row = BatchPrediction.objects.for_tenant(job.tenant_id).filter(pk=job.pk)
    changed = row.filter(state=JobState.QUEUED).update(
        **_ending(JobState.CANCELLED, now), **_at(Checkpoint()), cancel_requested_at=now
    ) or row.filter(state=JobState.RUNNING, cancel_requested_at=None).update(cancel_requested_at=now)
    if changed:
        audit.record(tenant=job.tenant_id, actor=actor, verb="batch_prediction.cancel", subject=job.pk)
    job = get(tenant=job.tenant_id, job_id=job.pk)
    if job.state in (JobState.SUCCEEDED, JobState.FAILED):
        raise Conflict(f"The batch prediction {job.pk} has {job.state} already; only one under way can be cancelled.")
    return job


def open_results(*, job: BatchPrediction) -> BinaryIO:
    """The lines of a job that ended, open for reading."""
    if not job.result_sha256:
        after = "and left none" if job.has_ended else "and has none yet"
        raise Conflict(f"The batch prediction {job.pk} is {job.state} {after}: there are no results.")
    return storage.open(tenant_id=job.tenant_id, sha256=job.result_sha256)


# What a worker does; it runs in operator scope.


def claim(*, worker: str, now: datetime) -> BatchPrediction | None:
    """The next job for a worker: one that waits, or one whose worker let its lease run out; none if there is none.

    The tenant whose last start is longest ago comes first. A job that three workers died of is failed; one whose
    cancelling its worker did not live to do is handed out, for the new one to keep what results there are.
    """
    while job := _due().first():
        if job.state == JobState.QUEUED or job.attempt < MAX_ATTEMPTS:
            return _claimed(job, worker, now)
        _abandon(job, worker, now)
    return None


def hold_of(job: BatchPrediction) -> Hold:
    """The hold that claiming the job gave."""
    return Hold(job_id=job.pk, tenant_id=job.tenant_id, worker=job.worker, attempt=job.attempt)


def checkpoint_of(job: BatchPrediction) -> Checkpoint:
    """How far the job was, as the last report said."""
    return Checkpoint(job.rows_done, job.rows_failed, job.checkpoint_bytes, job.checkpoint_sha256)


def report(*, hold: Hold, checkpoint: Checkpoint) -> bool:
    """Writes down how far the job is, and renews the lease; tells whether the customer wants it cancelled.

    Raises LeaseLost if the job is another's by now.
    """
    _change(hold, **_at(checkpoint), lease_until=_lease_end())
    return _held(hold).exclude(cancel_requested_at=None).exists()


def finish(*, hold: Hold, checkpoint: Checkpoint, whole: bool, results: Staging, now: datetime) -> None:
    """Ends a job with its results, in a transaction of its own: the rows that were answered go on the bill with them.

    It has succeeded if the results are `whole`, and was cancelled if its customer asked for that in the meantime.
    """
    job = _held(hold).select_for_update(of=("self",)).select_related("version__model").first()
    if job is None:
        raise LeaseLost(hold.job_id)
    state = JobState.SUCCEEDED if whole and job.cancel_requested_at is None else JobState.CANCELLED
    (blob,) = results.blobs.values()
    _change(
        hold, **_ending(state, now), **_at(checkpoint), result_sha256=blob.sha256, result_size=blob.size
    )  # fmt: skip
    results.record(now=now)
    audit.record(
        tenant=hold.tenant_id,
        actor=hold.actor,
        verb=f"batch_prediction.end_{state}",
        subject=hold.job_id,
        rows=checkpoint.done,
        failed=checkpoint.failed,
    )
    results.move_in(now=now)
    _bill(job, checkpoint.done - checkpoint.failed, now)


def fail(*, hold: Hold, error: str, now: datetime) -> None:
    """Ends a job that cannot be done; it has no results and is not billed."""
    _change(hold, **_ending(JobState.FAILED, now), error=error)
    audit.record(
        tenant=hold.tenant_id, actor=hold.actor, verb="batch_prediction.fail", subject=hold.job_id, error=error
    )


def put_back(*, hold: Hold) -> None:
    """Returns a job to the queue because its worker stops; that is no attempt of its own."""
    wanted = _held(hold).filter(cancel_requested_at=None)
    if not wanted.update(state=JobState.QUEUED, worker="", lease_until=None, attempt=F("attempt") - 1):
        # Somebody wants it cancelled: whoever takes it over ends it with the results that there are.
        _change(hold, lease_until=Now())
        return
    audit.record(tenant=hold.tenant_id, actor=hold.actor, verb="batch_prediction.put_back", subject=hold.job_id)


def _held(hold: Hold) -> QuerySet[BatchPrediction]:
    return BatchPrediction.objects.for_tenant(hold.tenant_id).filter(
        pk=hold.job_id, state=JobState.RUNNING, worker=hold.worker, attempt=hold.attempt
    )


def _change(hold: Hold, **values: Any) -> None:
    if not _held(hold).update(**values):
        raise LeaseLost(hold.job_id)


def _due() -> QuerySet[BatchPrediction]:
    of_tenant = BatchPrediction.across_tenants.filter(tenant_id=OuterRef("tenant_id")).exclude(started_at=None)
    last_start = Subquery(of_tenant.order_by("-started_at").values("started_at")[:1])
    return (
        BatchPrediction.across_tenants.filter(
            Q(state=JobState.QUEUED) | Q(state=JobState.RUNNING, lease_until__lt=Now()), tenant__active=True
        )
        .annotate(last_start=last_start)
        .order_by(F("last_start").asc(nulls_first=True), "created_at", "pk")
        .select_for_update(skip_locked=True, of=("self",))
    )


def _claimed(job: BatchPrediction, worker: str, now: datetime) -> BatchPrediction:
    BatchPrediction.across_tenants.filter(pk=job.pk).update(
        state=JobState.RUNNING,
        worker=worker,
        attempt=F("attempt") + 1,
        lease_until=_lease_end(),
        started_at=job.started_at or now,
    )
    if job.state == JobState.RUNNING:
        audit.record(
            tenant=job.tenant_id,
            actor=f"batch_worker:{worker}",
            verb="batch_prediction.take_over",
            subject=job.pk,
            of=job.worker,
        )
    return BatchPrediction.across_tenants.select_related("dataset", "version__model").get(pk=job.pk)


def _abandon(job: BatchPrediction, worker: str, now: datetime) -> None:
    """Ends a job that no worker lives through, without results and a bill."""
    wanted = job.cancel_requested_at is not None
    error = "" if wanted else f"The worker broke off {MAX_ATTEMPTS} times while doing this job; it is not tried again."
    state = JobState.CANCELLED if wanted else JobState.FAILED
    BatchPrediction.across_tenants.filter(pk=job.pk).update(**_ending(state, now), error=error)
    audit.record(
        tenant=job.tenant_id,
        actor=f"batch_worker:{worker}",
        verb="batch_prediction.abandon",
        subject=job.pk,
        state=state,
    )


def _at(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "rows_done": checkpoint.done,
        "rows_failed": checkpoint.failed,
        "checkpoint_bytes": checkpoint.size,
        "checkpoint_sha256": checkpoint.sha256,
    }


def _ending(state: str, now: datetime) -> dict[str, Any]:
    return {"state": state, "finished_at": now, "lease_until": None}


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.BATCH_LEASE_SECONDS)


def _deployment(tenant: Tenant, name: str) -> Deployment:
    row = Deployment.objects.for_tenant(tenant).select_related("version__model").filter(name=name).first()
    if row is None:
        raise Invalid(
            f"There is no deployment {name[:80]!r}.",
            errors=(FieldError("deployment", "Expected the name of one of your deployments."),),
        )
    if row.paused:
        raise Conflict(f"The deployment {row.name} is paused: POST /api/v1/deployments/{row.name}/resume first.")
    return row


def _dataset(tenant: Tenant, dataset_id: str) -> Dataset:
    dataset = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).first()
    if dataset is None:
        raise Invalid(
            f"There is no data set {dataset_id[:80]!r}.",
            errors=(FieldError("dataset", "Expected the id of one of your data sets."),),
        )
    if dataset.state != DatasetState.SEALED:
        raise Conflict(
            f"The data set {dataset.name} is {dataset.state}, and a batch prediction takes a sealed one: "
            f"POST /api/v1/datasets/{dataset.pk}/seal first."
        )
    return dataset


def _check_fits(deployment: Deployment, dataset: Dataset) -> None:
    recipe = deployment.version.recipe
    taken = recipes.get(recipe).dataset_kind if recipe else ""
    if taken != dataset.kind:
        wanted = f"takes {taken}" if taken else "has no recipe that reads files"
        raise Invalid(
            f"The version {deployment.version} of {deployment.name} {wanted}; "
            f"the data set {dataset.name} is {dataset.kind}.",
            errors=(FieldError("deployment", f"Expected one whose model takes {dataset.kind}."),),
        )


def _check_queue(tenant: Tenant) -> None:
    waiting = BatchPrediction.objects.for_tenant(tenant).filter(state=JobState.QUEUED).count()
    if waiting >= settings.BATCH_MAX_QUEUED_JOBS:
        raise OverQuota(
            f"{waiting} batch predictions of yours are waiting, the most that may; cancel one or wait until one "
            "starts.",
            retry_after=60,
        )


def _bill(job: BatchPrediction, answered: int, now: datetime) -> None:
    """The rows that were answered, once a job; on the bill of the key that asked for it."""
    kind, _, key = job.created_by.partition(":")
    event = UsageEvent(
        id=job.pk,
        at_ms=int(now.timestamp() * 1000),
        tenant=job.tenant_id,
        key=key if kind == "key" else "",
        deployment=job.deployment_name,
        version=str(job.version),
        meters={Meter.BATCH_PREDICTIONS: answered},
    )
    usage.record(events=[event], producer=PRODUCER, segment_id=f"{PRODUCER}:{job.pk}")
