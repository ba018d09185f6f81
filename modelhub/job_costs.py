"""What a job for the trainer may cost, and its seconds on the bill."""

from datetime import datetime
from decimal import Decimal

from modelhub.models import TrainerJob
from tenants.ledger import usage
from tenants.limits import budgets
from tenants.limits.budgets import Budget
from tenants.models import Meter

PRODUCER = "training"


def budget_of(job: TrainerJob) -> Budget | None:
    """The most that the job may cost."""
    return None if job.budget is None else budgets.restored(amount=job.budget, currency=job.budget_currency)


def paid_seconds(*, job: TrainerJob, now: datetime) -> Decimal | None:
    """How many seconds the job's budget pays at the price of now; none if it sets no bound."""
    return budgets.pays(
        tenant=job.tenant, budget=budget_of(job), meter=Meter.TRAINING_SECONDS, now=now, places=3
    )  # fmt: skip


def bill(job: TrainerJob, *, seconds: Decimal, version: str, now: datetime) -> None:
    """The seconds that the job's process lived, once a job; on the bill of the key that asked for it.

    Never more of them than the job's budget pays at the price of now. Call it last in a transaction.
    """
    paid = paid_seconds(job=job, now=now)
    usage.record_job(
        job=job.pk, tenant=job.tenant_id, asked_by=job.created_by, version=version, now=now, producer=PRODUCER,
        meter=Meter.TRAINING_SECONDS, quantity=seconds if paid is None else min(seconds, paid),
    )  # fmt: skip
