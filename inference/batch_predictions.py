"""Batch predictions: asked for, claimed by a worker, reported on, ended. Every change of state is here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from django.conf import settings
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from inference import batch_requests
from inference.batch_requests import Request
from inference.models import BatchPrediction
from modelhub import storage
from modelhub.models import JobState
from modelhub.storage import Staging
from tenants import audit, notices
from tenants.errors import Conflict, NotFound, OverQuota
from tenants.ledger import usage
from tenants.limits import budgets, spend_caps
from tenants.limits.budgets import Budget
from tenants.models import Meter, Tenant

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


def create(*, tenant: Tenant, request: Request, actor: str, now: datetime) -> BatchPrediction:
    """Queues a job: all rows will be answered by the version that the deployment serves at this moment."""
    wanted = batch_requests.checked(tenant=tenant, request=request, now=now)
    served, dataset, money = wanted.deployment, wanted.dataset, wanted.budget
    _check_queue(tenant)
    spend_caps.check(tenant=tenant, now=now)
    job = BatchPrediction.objects.create(
        tenant=tenant,
        deployment_name=served.name,
        version=served.version,
        dataset=dataset,
        rows_total=dataset.items,
        budget=money.amount if money else None,
        budget_currency=money.currency if money else "",
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
        **({"budget": str(money)} if money else {}),
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
    if changed and job.state == JobState.CANCELLED:
        _announce(job)
    if job.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED):
        raise Conflict(f"The batch prediction {job.pk} has {job.state} already; only one under way can be cancelled.")
    return job


def open_results(*, job: BatchPrediction) -> BinaryIO:
    """The lines of a job that ended, open for reading."""
    if not job.result_sha256:
        after = "and left none" if job.has_ended else "and has none yet"
        raise Conflict(f"The batch prediction {job.pk} is {job.state} {after}: there are no results.")
    return storage.open(tenant_id=job.tenant_id, sha256=job.result_sha256)


def held_files(tenant_id: str, digests: Sequence[str]) -> set[str]:
    """Those of these stored files that are results of the tenant's batch predictions."""
    rows = BatchPrediction.objects.for_tenant(tenant_id).filter(result_sha256__in=digests)
    return set(rows.values_list("result_sha256", flat=True))


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


def budget_of(job: BatchPrediction) -> Budget | None:
    """The most that the job may cost."""
    return None if job.budget is None else budgets.restored(amount=job.budget, currency=job.budget_currency)


def paid_rows(*, job: BatchPrediction, now: datetime) -> int | None:
    """How many answered rows the job's budget pays at the price of now; none if it sets no bound."""
    paid = budgets.pays(tenant=job.tenant, budget=budget_of(job), meter=Meter.BATCH_PREDICTIONS, now=now)
    return None if paid is None else int(paid)


def checkpoint_of(job: BatchPrediction) -> Checkpoint:
    """How far the job was, as the last report said."""
    return Checkpoint(job.rows_done, job.rows_failed, job.checkpoint_bytes, job.checkpoint_sha256)


def report(*, hold: Hold, checkpoint: Checkpoint) -> bool:
    """Writes down how far the job is, and renews the lease; tells whether the customer wants it cancelled.

    Raises LeaseLost if the job is another's by now.
    """
    _change(hold, **_at(checkpoint), lease_until=_lease_end())
    return _held(hold).exclude(cancel_requested_at=None).exists()


def finish(*, hold: Hold, checkpoint: Checkpoint, results: Staging, now: datetime) -> None:
    """Ends a job with its results, in a transaction of its own: the rows that were answered go on the bill with them.

    It was cancelled if its customer asked for that in the meantime, and else has succeeded if the results are whole, or
    was stopped at its budget.
    """
    job = _held(hold).select_for_update(of=("self",)).select_related("version__model", "tenant__plan").first()
    if job is None:
        raise LeaseLost(hold.job_id)
    state, reason = _state_at(job, checkpoint)
    (blob,) = results.blobs.values()
    _change(
        hold, **_ending(state, now), **_at(checkpoint), stop_reason=reason, result_sha256=blob.sha256,
        result_size=blob.size,
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
    _announce(get(tenant=hold.tenant_id, job_id=hold.job_id))
    _bill(job, checkpoint.done - checkpoint.failed, now)


def fail(*, hold: Hold, error: str, now: datetime) -> None:
    """Ends a job that cannot be done; it has no results and is not billed."""
    _change(hold, **_ending(JobState.FAILED, now), error=error)
    audit.record(
        tenant=hold.tenant_id, actor=hold.actor, verb="batch_prediction.fail", subject=hold.job_id, error=error
    )
    _announce(get(tenant=hold.tenant_id, job_id=hold.job_id))


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
    return BatchPrediction.across_tenants.select_related("dataset", "version__model", "tenant__plan").get(pk=job.pk)


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
    _announce(get(tenant=job.tenant_id, job_id=job.pk))


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


def _state_at(job: BatchPrediction, checkpoint: Checkpoint) -> tuple[JobState, str]:
    """What a job that ends with these results is, and why it answered less than all if that is for its budget."""
    if job.cancel_requested_at is not None:
        return JobState.CANCELLED, ""
    if checkpoint.done == job.rows_total:
        return JobState.SUCCEEDED, ""
    answered = checkpoint.done - checkpoint.failed
    return JobState.STOPPED, (
        f"The budget of {budget_of(job)} pays for {answered:,} answered rows; the job was stopped after "
        f"{checkpoint.done:,} of {job.rows_total:,} rows, and their results are kept."
    )


def _check_queue(tenant: Tenant) -> None:
    waiting = BatchPrediction.objects.for_tenant(tenant).filter(state=JobState.QUEUED).count()
    if waiting >= settings.BATCH_MAX_QUEUED_JOBS:
        raise OverQuota(
            f"{waiting} batch predictions of yours are waiting, the most that may; cancel one or wait until one "
            "starts.",
            retry_after=60,
        )


def _announce(job: BatchPrediction) -> None:
    notices.announce(
        tenant=job.tenant_id,
        kind="batch_prediction.ended",
        once=job.pk,
        job=job.pk,
        state=job.state,
        deployment=job.deployment_name,
        version=str(job.version),
        rows={"total": job.rows_total, "done": job.rows_done, "failed": job.rows_failed},
        error=job.error or None,
        stop_reason=job.stop_reason or None,
    )


def _bill(job: BatchPrediction, answered: int, now: datetime) -> None:
    """The rows that were answered, once a job; on the bill of the key that asked for it.

    Never more of them than the job's budget pays at the price of now.
    """
    paid = paid_rows(job=job, now=now)
    usage.record_job(
        job=job.pk, tenant=job.tenant_id, asked_by=job.created_by, now=now, producer=PRODUCER,
        deployment=job.deployment_name, version=str(job.version),
        meter=Meter.BATCH_PREDICTIONS, quantity=answered if paid is None else min(answered, paid),
    )  # fmt: skip
