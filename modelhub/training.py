"""Training jobs: asked for, claimed by a trainer, reported on, ended. Their states are moved by `job_queue`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Max, OuterRef, QuerySet, Subquery

from modelhub import job_costs, training_requests
from modelhub.job_costs import budget_of
from modelhub.job_queue import MAX_ATTEMPTS, Hold, JobQueue, LeaseLost
from modelhub.models import ModelVersion, Search, TrainingJob, TrainingLogLine
from modelhub.recipes.learning import Monitor
from modelhub.training_requests import Request, Wanted
from tenants import audit, notices, spend_caps
from tenants.models import Tenant

__all__ = ["MAX_ATTEMPTS", "Hold", "LeaseLost", "budget_of"]

paid_seconds = job_costs.paid_seconds


class _TrainingJobs(JobQueue[TrainingJob]):
    afresh = {**JobQueue.afresh, "history": []}

    def rows(self, *, tenant: Tenant | str) -> QuerySet[TrainingJob]:
        made = ModelVersion.across_tenants.filter(job=OuterRef("pk"))
        return (
            super()
            .rows(tenant=tenant)
            .annotate(version_id=Subquery(made.values("pk")[:1]), version_number=Subquery(made.values("number")[:1]))
        )

    def announce(self, job: TrainingJob, *, version: str = "") -> None:
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


def cancel(*, job: TrainingJob, actor: str, now: datetime) -> TrainingJob:
    """A queued job ends at once; of a running one the trainer hears within half a second. Twice changes nothing."""
    return QUEUE.cancel(job=job, actor=actor, now=now)


def log_lines(*, job: TrainingJob, after: int, limit: int) -> list[TrainingLogLine]:
    """The lines of a job's log that follow a number."""
    lines = TrainingLogLine.objects.for_tenant(job.tenant_id).filter(job=job, number__gt=after)
    return list(lines.order_by("number")[:limit])


def monitor_of(job: TrainingJob) -> Monitor:
    """The metric by which the job's recipe tells its epochs apart; the loss while none is known yet."""
    known: dict[str, Any] = job.monitor
    return Monitor(known["name"], known["higher_is_better"]) if known else Monitor("val_loss", higher_is_better=False)


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
) -> bool:
    """Writes down how far the job is, and renews the lease; tells whether the customer wants it cancelled.

    Raises LeaseLost if the job is another's by now.
    """
    is_unwanted = QUEUE.renew(hold=hold, progress=dict(progress), history=list(history))
    # A line that is there already was written by a report whose answer got lost.
    TrainingLogLine.objects.for_tenant(hold.tenant_id).bulk_create(
        [
            TrainingLogLine(tenant_id=hold.tenant_id, job_id=hold.job_id, number=number, at=at, text=text)
            for number, at, text in lines
        ],
        ignore_conflicts=True,
    )
    return is_unwanted


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


def cancelled(*, hold: Hold, seconds: Decimal, now: datetime) -> None:
    """Ends a job that its customer cancelled; what it took until then is billed."""
    QUEUE.cancelled(hold=hold, seconds=seconds, now=now)


def fail(*, hold: Hold, error: str, seconds: Decimal, now: datetime) -> None:
    """Ends a job that cannot be done; it is not billed."""
    QUEUE.fail(hold=hold, error=error, seconds=seconds, now=now)


def put_back(*, hold: Hold) -> None:
    """Returns a job to the queue because its trainer stops; that is no attempt of its own."""
    QUEUE.put_back(hold=hold, history=[])


def lock(*, hold: Hold) -> TrainingJob:
    """The held job's row, locked until the transaction ends; raises LeaseLost."""
    return QUEUE.lock(hold=hold)
