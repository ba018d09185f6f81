"""What a job for the trainer may use: the plan says it, and where it does not, the service's settings do."""

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from modelhub.models import Evaluation, JobState, TrainingJob
from tenants.models import Plan, Tenant

LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('modelhub.training_limits ' || %s, 0))"


@dataclass(frozen=True, slots=True)
class TrainingLimits:
    """For one job its seconds and bytes of memory; `at_once` is how many may run at the same time, none if any may."""

    seconds: int
    memory_bytes: int
    at_once: int | None
    plan: str

    @property
    def in_words(self) -> str:
        """How many may run at once, for who asks what a job will take; empty if any may."""
        if self.at_once is None:
            return ""
        jobs = "One job" if self.at_once == 1 else f"{self.at_once} jobs"
        return f"{jobs} of yours at most can run at a time by the plan {self.plan}; further ones wait."


def of(plan: Plan) -> TrainingLimits:
    """The limits of the plan's tenants."""
    return TrainingLimits(
        seconds=plan.training_job_seconds or settings.TRAINING_MAX_SECONDS,
        memory_bytes=plan.training_job_bytes or settings.TRAINING_MAX_MEMORY_BYTES,
        at_once=plan.training_jobs_at_once,
        plan=plan.name,
    )


def has_room(tenant: Tenant) -> bool:
    """Whether one more job of the tenant may run, in operator scope.

    While another trainer decides this for the tenant there is none: waiting for one another could go round in circles.
    What holds is decided when the caller's transaction commits, so that it has to start the job before.
    """
    at_once = of(tenant.plan).at_once
    return at_once is None or (_locked(tenant) and _running(tenant) < at_once)


def _locked(tenant: Tenant) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [tenant.pk])
        return bool(cursor.fetchone()[0])


def _running(tenant: Tenant) -> int:
    return sum(
        kind.objects.for_tenant(tenant).filter(state=JobState.RUNNING).count() for kind in (TrainingJob, Evaluation)
    )
