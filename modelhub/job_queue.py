"""The queues of work for trainers: rows of a table, claimed by a lease. Every change of their state is here.

Those of a customer run in its tenant's scope, those of a trainer in operator scope.
"""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from modelhub import job_costs, training_limits
from modelhub.models import JobState, TrainerJob
from tenants import audit
from tenants.errors import Conflict, NotFound, OverQuota
from tenants.models import Tenant

Job = TypeVar("Job", bound=TrainerJob)


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


class Stop(enum.StrEnum):
    """What a trainer is to do with the job at hand, as its customer wants it."""

    NO = ""
    AT_ONCE = "at once"
    KEEP_BEST = "keep the best"


class LeaseLost(Exception):
    """Another trainer has the job by now; nothing was changed."""


class JobQueue(Generic[Job]):
    """One kind of job: its table, and how the audit trail and its customers call it.

    `related` is what comes along with a claimed job.
    """

    related: tuple[str, ...] = ("dataset", "tenant__plan")

    def __init__(self, table: type[Job], *, noun: str, words: str) -> None:
        self.table = table
        self.noun = noun
        self.words = words

    def announce(self, job: Job, *, version: str = "") -> None:
        """Tells the tenant of a job's end."""
        raise NotImplementedError

    # What a customer does.

    def check_room(self, tenant: Tenant) -> None:
        """Raises OverQuota if as many jobs wait as may."""
        waiting = self.table.objects.for_tenant(tenant).filter(state=JobState.QUEUED).count()
        if waiting >= settings.TRAINING_MAX_QUEUED_JOBS:
            raise OverQuota(
                f"{waiting} {self.words}s of yours are waiting, the most that may; cancel one or wait until one "
                "starts.",
                retry_after=60,
            )

    def rows(self, *, tenant: Tenant | str) -> QuerySet[Job]:
        """The tenant's jobs."""
        return self.table.objects.for_tenant(tenant)

    def get(self, *, tenant: Tenant | str, job_id: str) -> Job:
        """The tenant's job of this id."""
        row = self.rows(tenant=tenant).filter(pk=job_id).first()
        if row is None:
            raise NotFound(f"There is no {self.words} {job_id!r}.")
        return row

    def cancel(self, *, job: Job, actor: str, now: datetime, **wishes: bool) -> Job:
        """A queued job ends at once; of a running one the trainer hears within half a second. Twice changes nothing."""
        row = self.table.objects.for_tenant(job.tenant_id).filter(pk=job.pk)
        changed = self.withdraw(row, now=now, **wishes)
        if changed:
            granted = {name: True for name, wish in wishes.items() if wish}
            audit.record(tenant=job.tenant_id, actor=actor, verb=f"{self.noun}.cancel", subject=job.pk, **granted)
        job = self.get(tenant=job.tenant_id, job_id=job.pk)
        if changed and job.state == JobState.CANCELLED:
            self.announce(job)
        if job.state in (JobState.SUCCEEDED, JobState.FAILED):
            raise Conflict(f"The {self.words} {job.pk} has {job.state} already; only a job under way can be cancelled.")
        return job

    def withdraw(self, row: QuerySet[Job], *, now: datetime) -> int:
        """Cancels the row if it waits, asks for it if it runs; says of how many something was changed."""
        return row.filter(state=JobState.QUEUED).update(
            **self.ending(JobState.CANCELLED, now), cancel_requested_at=now
        ) or row.filter(state=JobState.RUNNING, cancel_requested_at=None).update(cancel_requested_at=now)

    # What a trainer does.

    def claim(self, *, trainer: str, now: datetime) -> Job | None:
        """The next job for a trainer: one that waits, or one whose lease ran out; none if there is none.

        The tenant whose last start is longest ago comes first, so that many jobs of one do not hold up another's; one
        that runs as many as its plan lets it is passed over. A job that is of no use any more (`is_lost`) is ended.
        """
        full: set[str] = set()
        while job := self._due().exclude(state=JobState.QUEUED, tenant__in=full).first():
            if job.state == JobState.RUNNING and self.is_lost(job):
                self._abandon(job, trainer, now)
            elif job.state == JobState.QUEUED and not training_limits.has_room(job.tenant):
                full.add(job.tenant_id)
            else:
                return self._claimed(job, trainer, now)
        return None

    def is_lost(self, job: Job) -> bool:
        """Whether a job whose trainer died is not to be taken over: three died of it, or it is not wanted any more."""
        return job.attempt >= settings.TRAINING_MAX_ATTEMPTS or job.cancel_requested_at is not None

    def afresh(self, job: Job) -> dict[str, Any]:
        """The columns with which an attempt at a job begins."""
        return {"progress": {"phase": "starting", "done": 0, "total": 1}}

    def ending(self, state: JobState, now: datetime) -> dict[str, Any]:
        """The columns with which a job ends."""
        return {"state": state, "finished_at": now, "lease_until": None}

    def hold_of(self, job: Job) -> Hold:
        """The hold that claiming the job gave."""
        return Hold(job_id=job.pk, tenant_id=job.tenant_id, trainer=job.trainer, attempt=job.attempt)

    def lock(self, *, hold: Hold) -> Job:
        """The held job's row, locked until the transaction ends; raises LeaseLost."""
        job = self.held(hold).select_for_update().first()
        if job is None:
            raise LeaseLost(hold.job_id)
        return job

    def renew(self, *, hold: Hold, **values: Any) -> Stop:
        """Writes down how far the job is, and renews the lease; tells whether the customer wants it stopped.

        Raises LeaseLost if the job is another's by now.
        """
        self.change(hold, **values, lease_until=lease_end())
        return Stop.AT_ONCE if self.held(hold).exclude(cancel_requested_at=None).exists() else Stop.NO

    def succeed(self, *, hold: Hold, seconds: Decimal, version: str, now: datetime, **values: Any) -> None:
        """Ends a job with what came of it, in the same transaction; call it last there."""
        self._end(hold, JobState.SUCCEEDED, now, training_seconds=seconds, **values)
        audit.record(
            tenant=hold.tenant_id, actor=hold.actor, verb=f"{self.noun}.succeed", subject=hold.job_id, version=version
        )
        self._follow_up(hold, now=now, billed=seconds, version=version)

    def cancelled(self, *, hold: Hold, seconds: Decimal, now: datetime, version: str = "", **values: Any) -> None:
        """Ends a job that its customer cancelled, perhaps with a version; what it took until then is billed."""
        self._end(hold, JobState.CANCELLED, now, training_seconds=seconds, **values)
        audit.record(
            tenant=hold.tenant_id, actor=hold.actor, verb=f"{self.noun}.end_cancelled", subject=hold.job_id,
            **({"version": version} if version else {}),
        )  # fmt: skip
        self._follow_up(hold, now=now, billed=seconds, version=version)

    def fail(self, *, hold: Hold, error: str, seconds: Decimal, now: datetime) -> None:
        """Ends a job that cannot be done; it is not billed."""
        self._end(hold, JobState.FAILED, now, training_seconds=seconds, error=error)
        audit.record(
            tenant=hold.tenant_id, actor=hold.actor, verb=f"{self.noun}.fail", subject=hold.job_id, error=error
        )
        self._follow_up(hold, now=now)

    def put_back(self, *, hold: Hold, **values: Any) -> None:
        """Returns a job to the queue because its trainer stops; that is no attempt of its own."""
        self.change(
            hold, state=JobState.QUEUED, trainer="", lease_until=None, attempt=F("attempt") - 1, progress={}, **values
        )
        audit.record(tenant=hold.tenant_id, actor=hold.actor, verb=f"{self.noun}.put_back", subject=hold.job_id)

    def held(self, hold: Hold) -> QuerySet[Job]:
        """The job's row while the hold holds."""
        return self.table.objects.for_tenant(hold.tenant_id).filter(
            pk=hold.job_id, state=JobState.RUNNING, trainer=hold.trainer, attempt=hold.attempt
        )

    def change(self, hold: Hold, **values: Any) -> None:
        """Changes the held job's row; raises LeaseLost."""
        if not self.held(hold).update(**values):
            raise LeaseLost(hold.job_id)

    def _due(self) -> QuerySet[Job]:
        of_tenant = self.table.across_tenants.filter(tenant_id=OuterRef("tenant_id")).exclude(started_at=None)
        last_start = Subquery(of_tenant.order_by("-started_at").values("started_at")[:1])
        due: QuerySet[Any] = (
            self.table.across_tenants.filter(
                Q(state=JobState.QUEUED) | Q(state=JobState.RUNNING, lease_until__lt=Now()), tenant__active=True
            )
            .annotate(last_start=last_start)
            .order_by(F("last_start").asc(nulls_first=True), "created_at", "pk")
            .select_related("tenant__plan")
            .select_for_update(skip_locked=True, of=("self",))
        )
        return due

    def _claimed(self, job: Job, trainer: str, now: datetime) -> Job:
        self.table.across_tenants.filter(pk=job.pk).update(
            state=JobState.RUNNING,
            trainer=trainer,
            attempt=F("attempt") + 1,
            lease_until=lease_end(),
            started_at=job.started_at or now,
            **self.afresh(job),
        )
        if job.state == JobState.RUNNING:
            audit.record(
                tenant=job.tenant_id, actor=f"trainer:{trainer}", verb=f"{self.noun}.take_over", subject=job.pk,
                of=job.trainer,
            )  # fmt: skip
        return self.table.across_tenants.select_related(*self.related).get(pk=job.pk)

    def _abandon(self, job: Job, trainer: str, now: datetime) -> None:
        """Ends a job whose trainer is gone: nothing measured how long it ran, and nothing is billed."""
        wanted = job.cancel_requested_at is not None
        times = settings.TRAINING_MAX_ATTEMPTS
        error = f"The trainer broke off {times} times in a row at this job; it is not tried again."
        state = JobState.CANCELLED if wanted else JobState.FAILED
        self.table.across_tenants.filter(pk=job.pk).update(**self.ending(state, now), error="" if wanted else error)
        audit.record(
            tenant=job.tenant_id, actor=f"trainer:{trainer}", verb=f"{self.noun}.abandon", subject=job.pk, state=state
        )
        job.refresh_from_db()
        self.announce(job)

    def _end(self, hold: Hold, state: JobState, now: datetime, **values: Any) -> None:
        self.change(hold, **self.ending(state, now), **values)

    def _follow_up(self, hold: Hold, *, now: datetime, billed: Decimal | None = None, version: str = "") -> None:
        """What follows from a job's end, last in its transaction: the notice of it, and its seconds on the bill."""
        job = self.rows(tenant=hold.tenant_id).select_related("tenant__plan").get(pk=hold.job_id)
        self.announce(job, version=version)
        if billed is not None:
            job_costs.bill(job, seconds=billed, version=version, now=now)


def lease_end() -> Any:
    """Until when a trainer holds a job that it claims or reports on now, by the database's clock."""
    return Now() + timedelta(seconds=settings.TRAINING_LEASE_SECONDS)
