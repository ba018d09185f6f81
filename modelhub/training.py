"""Training jobs: asked for, claimed by a trainer, reported on, ended. Every change of state is here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from modelhub import training_requests
from modelhub.models import JobState, ModelVersion, TrainingJob, TrainingLogLine
from modelhub.training_requests import Request
from tenants import audit, budgets, notices, spend_caps, usage
from tenants.budgets import Budget
from tenants.errors import Conflict, NotFound, OverQuota
from tenants.models import Meter, Tenant
from tenants.usage import UsageEvent

MAX_ATTEMPTS = 3
PRODUCER = "training"


@dataclass(frozen=True, slots=True)
class Hold:
    """A trainer's hold of a job: whoever reports with another one is refused."""

    job_id: str
    tenant_id: str
    trainer: str
    attempt: int

    @property
    def actor(self) -> str:
        return f"trainer:{self.trainer}"


class LeaseLost(Exception):
    """Another trainer has the job by now; nothing was changed."""


def create(*, tenant: Tenant, request: Request, actor: str, now: datetime) -> TrainingJob:
    """Queues a job, once everything that can be known beforehand is right."""
    wanted = training_requests.checked(tenant=tenant, request=request, now=now)
    _check_queue(tenant)
    spend_caps.check(tenant=tenant, now=now)
    job = TrainingJob.objects.create(
        tenant=tenant,
        dataset=wanted.dataset,
        model_name=wanted.model_name,
        recipe=wanted.recipe,
        parameters=wanted.parameters,
        budget=wanted.budget.amount if wanted.budget else None,
        budget_currency=wanted.budget.currency if wanted.budget else "",
        created_by=actor,
        created_at=now,
    )
    audit.record(
        tenant=tenant, actor=actor, verb="training_job.create", subject=job.pk, dataset=wanted.dataset.pk,
        model=wanted.model_name, **({"budget": str(wanted.budget)} if wanted.budget else {}),
    )  # fmt: skip
    return job


def rows(*, tenant: Tenant | str) -> QuerySet[TrainingJob]:
    """The tenant's jobs, each with `version_id` and `version_number` of the version that it made, if it did."""
    made = ModelVersion.across_tenants.filter(job=OuterRef("pk"))
    return TrainingJob.objects.for_tenant(tenant).annotate(
        version_id=Subquery(made.values("pk")[:1]), version_number=Subquery(made.values("number")[:1])
    )


def get(*, tenant: Tenant | str, job_id: str) -> TrainingJob:
    """The tenant's job of this id."""
    row = rows(tenant=tenant).filter(pk=job_id).first()
    if row is None:
        raise NotFound(f"There is no training job {job_id!r}.")
    return row


def cancel(*, job: TrainingJob, actor: str, now: datetime) -> TrainingJob:
    """A queued job ends at once; of a running one the trainer hears within half a second. Twice changes nothing."""
    row = TrainingJob.objects.for_tenant(job.tenant_id).filter(pk=job.pk)
    changed = row.filter(state=JobState.QUEUED).update(
        state=JobState.CANCELLED, cancel_requested_at=now, finished_at=now
    ) or row.filter(state=JobState.RUNNING, cancel_requested_at=None).update(cancel_requested_at=now)
    if changed:
        audit.record(tenant=job.tenant_id, actor=actor, verb="training_job.cancel", subject=job.pk)
    job = get(tenant=job.tenant_id, job_id=job.pk)
    if changed and job.state == JobState.CANCELLED:
        _announce(job)
    if job.state in (JobState.SUCCEEDED, JobState.FAILED):
        raise Conflict(f"The training job {job.pk} has {job.state} already; only a job under way can be cancelled.")
    return job


def log_lines(*, job: TrainingJob, after: int, limit: int) -> list[TrainingLogLine]:
    """The lines of a job's log that follow a number."""
    lines = TrainingLogLine.objects.for_tenant(job.tenant_id).filter(job=job, number__gt=after)
    return list(lines.order_by("number")[:limit])


# What a trainer does; it runs in operator scope.


def claim(*, trainer: str, now: datetime) -> TrainingJob | None:
    """The next job for a trainer: one that waits, or one whose trainer let its lease run out; none if there is none.

    The tenant whose last start is longest ago comes first, so that many jobs of one do not hold up another's. A job
    that three trainers died of is failed, and one whose cancelling its trainer did not live to do is cancelled.
    """
    while job := _due().first():
        if job.state == JobState.QUEUED or (job.attempt < MAX_ATTEMPTS and job.cancel_requested_at is None):
            return _claimed(job, trainer, now)
        _abandon(job, trainer, now)
    return None


def hold_of(job: TrainingJob) -> Hold:
    """The hold that claiming the job gave."""
    return Hold(job_id=job.pk, tenant_id=job.tenant_id, trainer=job.trainer, attempt=job.attempt)


def budget_of(job: TrainingJob) -> Budget | None:
    """The most that the job may cost."""
    return None if job.budget is None else budgets.restored(amount=job.budget, currency=job.budget_currency)


def paid_seconds(*, job: TrainingJob, now: datetime) -> Decimal | None:
    """How many seconds the job's budget pays at the price of now; none if it sets no bound."""
    return budgets.pays(
        tenant=job.tenant, budget=budget_of(job), meter=Meter.TRAINING_SECONDS, now=now, places=3
    )  # fmt: skip


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
    _change(hold, progress=dict(progress), history=list(history), lease_until=_lease_end())
    # A line that is there already was written by a report whose answer got lost.
    TrainingLogLine.objects.for_tenant(hold.tenant_id).bulk_create(
        [
            TrainingLogLine(tenant_id=hold.tenant_id, job_id=hold.job_id, number=number, at=at, text=text)
            for number, at, text in lines
        ],
        ignore_conflicts=True,
    )
    return _held(hold).exclude(cancel_requested_at=None).exists()


def succeed(*, hold: Hold, seconds: Decimal, version: str, stop_reason: str = "", now: datetime) -> None:
    """Ends a job whose version is published in the same transaction; call it last there."""
    _change(hold, **_ending(JobState.SUCCEEDED, now), training_seconds=seconds, stop_reason=stop_reason)
    audit.record(
        tenant=hold.tenant_id, actor=hold.actor, verb="training_job.succeed", subject=hold.job_id, version=version
    )
    _ended(hold, now=now, billed=seconds, version=version)


def cancelled(*, hold: Hold, seconds: Decimal, now: datetime) -> None:
    """Ends a job that its customer cancelled; what it took until then is billed."""
    _change(hold, **_ending(JobState.CANCELLED, now), training_seconds=seconds)
    audit.record(tenant=hold.tenant_id, actor=hold.actor, verb="training_job.end_cancelled", subject=hold.job_id)
    _ended(hold, now=now, billed=seconds)


def fail(*, hold: Hold, error: str, seconds: Decimal, now: datetime) -> None:
    """Ends a job that cannot be done; it is not billed."""
    _change(hold, **_ending(JobState.FAILED, now), training_seconds=seconds, error=error)
    audit.record(tenant=hold.tenant_id, actor=hold.actor, verb="training_job.fail", subject=hold.job_id, error=error)
    _ended(hold, now=now)


def put_back(*, hold: Hold) -> None:
    """Returns a job to the queue because its trainer stops; that is no attempt of its own."""
    _change(
        hold, state=JobState.QUEUED, trainer="", lease_until=None, progress={}, history=[], attempt=F("attempt") - 1
    )
    audit.record(tenant=hold.tenant_id, actor=hold.actor, verb="training_job.put_back", subject=hold.job_id)


def lock(*, hold: Hold) -> TrainingJob:
    """The held job's row, locked until the transaction ends; raises LeaseLost."""
    job = _held(hold).select_for_update().first()
    if job is None:
        raise LeaseLost(hold.job_id)
    return job


def _held(hold: Hold) -> QuerySet[TrainingJob]:
    return TrainingJob.objects.for_tenant(hold.tenant_id).filter(
        pk=hold.job_id, state=JobState.RUNNING, trainer=hold.trainer, attempt=hold.attempt
    )


def _change(hold: Hold, **values: Any) -> None:
    if not _held(hold).update(**values):
        raise LeaseLost(hold.job_id)


def _due() -> QuerySet[TrainingJob]:
    of_tenant = TrainingJob.across_tenants.filter(tenant_id=OuterRef("tenant_id")).exclude(started_at=None)
    last_start = Subquery(of_tenant.order_by("-started_at").values("started_at")[:1])
    return (
        TrainingJob.across_tenants.filter(
            Q(state=JobState.QUEUED) | Q(state=JobState.RUNNING, lease_until__lt=Now()), tenant__active=True
        )
        .annotate(last_start=last_start)
        .order_by(F("last_start").asc(nulls_first=True), "created_at", "pk")
        .select_for_update(skip_locked=True, of=("self",))
    )


def _claimed(job: TrainingJob, trainer: str, now: datetime) -> TrainingJob:
    TrainingJob.across_tenants.filter(pk=job.pk).update(
        state=JobState.RUNNING,
        trainer=trainer,
        attempt=F("attempt") + 1,
        lease_until=_lease_end(),
        started_at=job.started_at or now,
        progress={"phase": "starting", "done": 0, "total": 1},
        history=[],
    )
    if job.state == JobState.RUNNING:
        audit.record(
            tenant=job.tenant_id,
            actor=f"trainer:{trainer}",
            verb="training_job.take_over",
            subject=job.pk,
            of=job.trainer,
        )
    return TrainingJob.across_tenants.select_related("dataset", "tenant__plan").get(pk=job.pk)


def _abandon(job: TrainingJob, trainer: str, now: datetime) -> None:
    """Ends a job whose trainer is gone: nothing measured how long it ran, and nothing is billed."""
    wanted = job.cancel_requested_at is not None
    error = "" if wanted else f"The trainer broke off {MAX_ATTEMPTS} times while doing this job; it is not tried again."
    state = JobState.CANCELLED if wanted else JobState.FAILED
    TrainingJob.across_tenants.filter(pk=job.pk).update(**_ending(state, now), error=error)
    audit.record(
        tenant=job.tenant_id, actor=f"trainer:{trainer}", verb="training_job.abandon", subject=job.pk, state=state
    )
    job.refresh_from_db()
    _announce(job)


def _ending(state: str, now: datetime) -> dict[str, Any]:
    return {"state": state, "finished_at": now, "lease_until": None}


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.TRAINING_LEASE_SECONDS)


def _check_queue(tenant: Tenant) -> None:
    waiting = TrainingJob.objects.for_tenant(tenant).filter(state=JobState.QUEUED).count()
    if waiting >= settings.TRAINING_MAX_QUEUED_JOBS:
        raise OverQuota(
            f"{waiting} training jobs of yours are waiting, the most that may; cancel one or wait until one starts.",
            retry_after=60,
        )


def _ended(hold: Hold, *, now: datetime, billed: Decimal | None = None, version: str = "") -> None:
    """What follows from a job's end, last in its transaction: the notice of it, and its seconds on the bill if any."""
    job = TrainingJob.objects.for_tenant(hold.tenant_id).select_related("tenant__plan").get(pk=hold.job_id)
    _announce(job, version=version)
    if billed is not None:
        _bill(job, billed, version, now)


def _announce(job: TrainingJob, *, version: str = "") -> None:
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


def _bill(job: TrainingJob, seconds: Decimal, version: str, now: datetime) -> None:
    """The seconds that the job's process lived, once a job; on the bill of the key that asked for it.

    Never more of them than the job's budget pays at the price of now.
    """
    paid = paid_seconds(job=job, now=now)
    kind, _, key = job.created_by.partition(":")
    event = UsageEvent(
        id=job.pk,
        at_ms=int(now.timestamp() * 1000),
        tenant=job.tenant_id,
        key=key if kind == "key" else "",
        deployment="",
        version=version,
        meters={Meter.TRAINING_SECONDS: seconds if paid is None else min(seconds, paid)},
    )
    usage.record(events=[event], producer=PRODUCER, segment_id=f"{PRODUCER}:{job.pk}")
