"""Training jobs: asked for, claimed by a trainer, reported on, ended. Their states are moved by `job_queue`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max, OuterRef, QuerySet, Subquery

from modelhub import charts, job_costs, storage, training_requests
from modelhub.job_costs import budget_of
from modelhub.job_queue import Hold, JobQueue, LeaseLost, Stop, lease_end
from modelhub.models import JobState, ModelVersion, Search, TrainingJob, TrainingLogLine
from modelhub.recipes.learning import Monitor
from modelhub.training_requests import Request, Wanted
from tenants import audit, notices
from tenants.limits import spend_caps
from tenants.models import Tenant

__all__ = ["Hold", "LeaseLost", "Stop", "budget_of"]

paid_seconds = job_costs.paid_seconds


class _TrainingJobs(JobQueue[TrainingJob]):
    related = (*JobQueue.related, "warm_start__model")

    def rows(self, *, tenant: Tenant | str) -> QuerySet[TrainingJob]:
        made = ModelVersion.across_tenants.filter(job=OuterRef("pk"))
        return (
            super()
            .rows(tenant=tenant)
            .annotate(version_id=Subquery(made.values("pk")[:1]), version_number=Subquery(made.values("number")[:1]))
        )

    def withdraw(self, row: QuerySet[TrainingJob], *, now: datetime, keep_best: bool = False) -> int:
        if not keep_best:
            # Of one that was to keep the best so far it is enough to wish no longer for that.
            return super().withdraw(row, now=now) or row.filter(keep_best=True).update(keep_best=False)
        wish = {"cancel_requested_at": now, "keep_best": True}
        # What one that was put back has learned is in its checkpoint; a trainer makes the version of it.
        queued, unasked = row.filter(state=JobState.QUEUED), row.filter(cancel_requested_at=None)
        return (
            queued.filter(checkpoint={}).update(**self.ending(JobState.CANCELLED, now), **wish)
            or unasked.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).update(**wish)
        )  # fmt: skip

    def is_lost(self, job: TrainingJob) -> bool:
        """A job that is got on with at each attempt may be tried as often as it takes."""
        in_vain = job.attempt - job.checkpoint.get("attempt", 0)
        return in_vain >= settings.TRAINING_MAX_ATTEMPTS or (job.cancel_requested_at is not None and not job.keep_best)

    def afresh(self, job: TrainingJob) -> dict[str, Any]:
        return super().afresh(job) | {"history": kept_history(job)}

    def ending(self, state: JobState, now: datetime) -> dict[str, Any]:
        return super().ending(state, now) | {"checkpoint": {}}

    def renew(self, *, hold: Hold, **values: Any) -> Stop:
        stop = super().renew(hold=hold, **values)
        return Stop.KEEP_BEST if stop and self.held(hold).filter(keep_best=True).exists() else stop

    def announce(self, job: TrainingJob, *, version: str = "") -> None:
        drop = partial(storage.checkpoints.drop, tenant_id=job.tenant_id, job_id=job.pk)
        transaction.on_commit(drop, robust=True)
        notices.announce(
            tenant=job.tenant_id,
            kind="training_job.ended",
            once=job.pk,
            job=job.pk,
            state=job.state,
            model=job.model_name,
            version=version or None,
            error=job.error or None,
            stop_reason=job.stop_reason or None,
        )


QUEUE = _TrainingJobs(TrainingJob, noun="training_job", words="training job")


def create(*, tenant: Tenant, request: Request, actor: str, now: datetime) -> TrainingJob:
    """Queues a job, once everything that can be known beforehand is right."""
    wanted = training_requests.checked(tenant=tenant, request=request, now=now)
    QUEUE.check_room(tenant)
    spend_caps.check(tenant=tenant, now=now)
    return add(tenant=tenant, wanted=wanted, actor=actor, now=now)


def add(*, tenant: Tenant, wanted: Wanted, actor: str, now: datetime, search: Search | None = None) -> TrainingJob:
    """Queues a job that was checked, perhaps as one of a search."""
    job = TrainingJob.objects.create(
        tenant=tenant,
        dataset=wanted.dataset,
        model_name=wanted.model_name,
        recipe=wanted.recipe,
        parameters=wanted.parameters,
        budget=wanted.budget.amount if wanted.budget else None,
        budget_currency=wanted.budget.currency if wanted.budget else "",
        warm_start=wanted.warm_start,
        search=search,
        created_by=actor,
        created_at=now,
    )
    about = {"budget": str(wanted.budget)} if wanted.budget else {}
    about |= {"search": search.pk} if search else {}
    audit.record(
        tenant=tenant, actor=actor, verb="training_job.create", subject=job.pk, dataset=wanted.dataset.pk,
        model=wanted.model_name, **about,
    )  # fmt: skip
    return job


def rows(*, tenant: Tenant | str) -> QuerySet[TrainingJob]:
    """The tenant's jobs, each with `version_id` and `version_number` of the version that it made, if it did."""
    return QUEUE.rows(tenant=tenant)


def get(*, tenant: Tenant | str, job_id: str) -> TrainingJob:
    """The tenant's job of this id."""
    return QUEUE.get(tenant=tenant, job_id=job_id)


def cancel(*, job: TrainingJob, actor: str, now: datetime, keep_best: bool = False) -> TrainingJob:
    """A queued job ends at once; of a running one the trainer hears within half a second. Twice changes nothing.

    With `keep_best` one that has learned something ends with a version of the best so far; asked again without it, it
    ends at once.
    """
    return QUEUE.cancel(job=job, actor=actor, now=now, keep_best=keep_best)


def log_lines(*, job: TrainingJob, after: int, limit: int) -> list[TrainingLogLine]:
    """The lines of a job's log that follow a number."""
    lines = TrainingLogLine.objects.for_tenant(job.tenant_id).filter(job=job, number__gt=after)
    return list(lines.order_by("number")[:limit])


def kept_history(job: TrainingJob) -> list[Any]:
    """The epochs that the job's checkpoint has behind it."""
    return list(job.history[: job.checkpoint.get("epochs", 0)])


def monitor_of(job: TrainingJob) -> Monitor:
    """The metric by which the job's recipe tells its epochs apart; the loss while none is known yet."""
    known: dict[str, Any] = job.monitor
    return Monitor(known["name"], known["higher_is_better"]) if known else Monitor("val_loss", higher_is_better=False)


def best_epoch(job: TrainingJob) -> int | None:
    """The number of the epoch whose monitored metric was the best so far, the first of equals; none before it is."""
    monitor = monitor_of(job)
    best: tuple[int, float] | None = None
    for number, epoch in enumerate(job.history, 1):
        value = epoch.get(monitor.name)
        if isinstance(value, int | float) and (best is None or monitor.better(value, best[1])):
            best = (number, value)
    return best[0] if best else None


def curves(job: TrainingJob) -> str:
    """The job's metrics over its epochs, as SVG."""
    title = f"{job.model_name}: {job.recipe}, {job.pk}"
    return charts.curves(job.history, title=title, best_epoch=best_epoch(job))


# What a trainer does; it runs in operator scope.


def claim(*, trainer: str, now: datetime) -> TrainingJob | None:
    """The next job for a trainer; `JobQueue.claim` says which."""
    return QUEUE.claim(trainer=trainer, now=now)


def hold_of(job: TrainingJob) -> Hold:
    """The hold that claiming the job gave."""
    return QUEUE.hold_of(job)


def last_line(*, hold: Hold) -> int:
    """The number of the last line in the job's log, 0 if it is empty."""
    lines = TrainingLogLine.objects.for_tenant(hold.tenant_id).filter(job_id=hold.job_id)
    return int(lines.aggregate(last=Max("number"))["last"] or 0)


def report(
    *,
    hold: Hold,
    progress: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    lines: Sequence[tuple[int, datetime, str]],
) -> Stop:
    """Writes down how far the job is, and renews the lease; tells whether the customer wants it stopped.

    Raises LeaseLost if the job is another's by now.
    """
    stop = QUEUE.renew(hold=hold, progress=dict(progress), history=list(history))
    # A line that is there already was written by a report whose answer got lost.
    TrainingLogLine.objects.for_tenant(hold.tenant_id).bulk_create(
        [
            TrainingLogLine(tenant_id=hold.tenant_id, job_id=hold.job_id, number=number, at=at, text=text)
            for number, at, text in lines
        ],
        ignore_conflicts=True,
    )
    return stop


def checkpointed(*, hold: Hold, sha256: str, size: int, epochs: int, history: Sequence[Mapping[str, Any]]) -> None:
    """From now on the job is taken up at this checkpoint, which is stored, and at its epochs. Raises LeaseLost."""
    about = {"sha256": sha256, "size": size, "epochs": epochs, "attempt": hold.attempt}
    QUEUE.change(hold, checkpoint=about, history=list(history), lease_until=lease_end())


def succeed(
    *,
    hold: Hold,
    seconds: Decimal,
    version: str,
    stop_reason: str = "",
    monitor: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """Ends a job whose version is published in the same transaction; call it last there.

    `monitor` is the `name` of the metric that told its epochs apart, and whether `higher_is_better`.
    """
    QUEUE.succeed(
        hold=hold, seconds=seconds, version=version, now=now, stop_reason=stop_reason, monitor=dict(monitor or {})
    )


def cancelled(
    *,
    hold: Hold,
    seconds: Decimal,
    version: str = "",
    stop_reason: str = "",
    monitor: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """Ends a job that its customer cancelled, perhaps with a version; what it took until then is billed."""
    QUEUE.cancelled(
        hold=hold, seconds=seconds, now=now, version=version, stop_reason=stop_reason, monitor=dict(monitor or {})
    )


def fail(*, hold: Hold, error: str, seconds: Decimal, now: datetime) -> None:
    """Ends a job that cannot be done; it is not billed."""
    QUEUE.fail(hold=hold, error=error, seconds=seconds, now=now)


def put_back(*, hold: Hold) -> None:
    """Returns a job to the queue because its trainer stops; that is no attempt of its own."""
    QUEUE.put_back(hold=hold, history=kept_history(lock(hold=hold)))


def lock(*, hold: Hold) -> TrainingJob:
    """The held job's row, locked until the transaction ends; raises LeaseLost."""
    return QUEUE.lock(hold=hold)
