"""Evaluations of model versions: asked for, claimed by a trainer, ended. Their states are moved by `job_queue`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from modelhub import datasets, recipes, registry, training_limits, training_requests
from modelhub.job_queue import Hold, JobQueue
from modelhub.models import Dataset, EvaluatedSplit, Evaluation, JobState, ModelVersion
from tenants import audit, notices
from tenants.errors import FieldError, Invalid, NotFound
from tenants.limits import budgets, spend_caps
from tenants.limits.budgets import Budget
from tenants.models import Meter, Tenant
from tenants.pricing import quotes
from tenants.pricing.quotes import Quote

# Starting the process and the version alone takes as long.
LEAST_SECONDS = Decimal(5)
MAX_SLICES = 5


@dataclass(frozen=True, slots=True)
class Request:
    """An evaluation as its customer words it."""

    model_name: str
    number: int
    dataset_id: str
    split: str = EvaluatedSplit.VALIDATION
    slices: Sequence[str] = field(default_factory=tuple)
    budget: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An evaluation that can be done: the version's recipe reads what is in the sealed data set."""

    version: ModelVersion
    dataset: Dataset
    split: str
    slices: tuple[str, ...]
    rows: int
    budget: Budget | None


class _Evaluations(JobQueue[Evaluation]):
    related = ("dataset", "version__model", "tenant__plan")

    def rows(self, *, tenant: Tenant | str) -> QuerySet[Evaluation]:
        return super().rows(tenant=tenant).select_related("version__model")

    def announce(self, job: Evaluation, *, version: str = "") -> None:
        job = self.get(tenant=job.tenant_id, job_id=job.pk)
        notices.announce(
            tenant=job.tenant_id,
            kind="evaluation.ended",
            once=job.pk,
            evaluation=job.pk,
            state=job.state,
            version=str(job.version),
            dataset=job.dataset_id,
            error=job.error or None,
        )


QUEUE = _Evaluations(Evaluation, noun="evaluation", words="evaluation")


def create(*, tenant: Tenant, request: Request, actor: str, now: datetime) -> Evaluation:
    """Queues an evaluation, once everything that can be known beforehand is right."""
    wanted = checked(tenant=tenant, request=request, now=now)
    QUEUE.check_room(tenant)
    spend_caps.check(tenant=tenant, now=now)
    job = Evaluation.objects.create(
        tenant=tenant,
        version=wanted.version,
        dataset=wanted.dataset,
        split=wanted.split,
        slices=list(wanted.slices),
        budget=wanted.budget.amount if wanted.budget else None,
        budget_currency=wanted.budget.currency if wanted.budget else "",
        created_by=actor,
        created_at=now,
    )
    audit.record(
        tenant=tenant, actor=actor, verb="evaluation.create", subject=job.pk, version=str(wanted.version),
        dataset=wanted.dataset.pk, **({"budget": str(wanted.budget)} if wanted.budget else {}),
    )  # fmt: skip
    return job


def checked(*, tenant: Tenant, request: Request, now: datetime) -> Wanted:
    """The evaluation that the request words; raises Invalid or Conflict in words."""
    version = _version(tenant, request)
    dataset = training_requests.sealed_dataset(tenant=tenant, dataset_id=request.dataset_id, verb="evaluated on")
    recipe = recipes.get(version.recipe) if version.recipe else None
    if recipe is None or recipe.dataset_kind != dataset.kind:
        takes = f"takes {recipe.dataset_kind}" if recipe else "has no recipe that reads data sets"
        raise _wrong("dataset", f"The version {version} {takes}; the data set {dataset.name} is {dataset.kind}.")
    if len(set(request.slices)) != len(request.slices) or len(request.slices) > MAX_SLICES:
        raise _wrong("slices", f"Got {len(request.slices)} slices; expected {MAX_SLICES} different ones at most.")
    rows = training_requests.rows_of(items_of(dataset, request.split))
    if not rows:
        raise _wrong("split", f"The data set {dataset.name} has no rows in its split {request.split}.")
    budget = None
    if request.budget is not None:
        budget = budgets.checked(
            tenant=tenant, amount=request.budget, meter=Meter.TRAINING_SECONDS, least=LEAST_SECONDS, now=now
        )
    return Wanted(version, dataset, request.split, tuple(request.slices), rows, budget)


def quote(*, tenant: Tenant, request: Request, now: datetime) -> Quote:
    """What the evaluation would cost at most if it were asked for now; what creating it refuses is refused here."""
    wanted = checked(tenant=tenant, request=request, now=now)
    limits = training_limits.of(tenant.plan)
    most = Decimal(limits.seconds)
    assumes = [f"An evaluation takes {most} seconds at most, and one that fails is not billed."]
    assumes += [limits.in_words] if limits.in_words else []
    paid = budgets.pays(tenant=tenant, budget=wanted.budget, meter=Meter.TRAINING_SECONDS, now=now, places=3)
    if paid is not None and paid < most:
        most = paid
        assumes.append(f"It is stopped within the {paid} seconds that its budget of {wanted.budget} pays.")
    likely, how = _likely_seconds(tenant, wanted)
    return quotes.quote(
        tenant=tenant,
        meter=Meter.TRAINING_SECONDS,
        most=most,
        likely=None if likely is None else min(likely, most),
        assumes=(*assumes, how),
        now=now,
    )


def items_of(dataset: Dataset, split: str) -> tuple[datasets.Item, ...]:
    """The items of a data set that an evaluation asks about; makes no query."""
    manifest = datasets.load_manifest(dataset)
    return manifest.items if split == EvaluatedSplit.ALL else manifest.of(split)


def rows(*, tenant: Tenant | str) -> QuerySet[Evaluation]:
    """The tenant's evaluations."""
    return QUEUE.rows(tenant=tenant)


def get(*, tenant: Tenant | str, evaluation_id: str) -> Evaluation:
    """The tenant's evaluation of this id."""
    return QUEUE.get(tenant=tenant, job_id=evaluation_id)


def cancel(*, evaluation: Evaluation, actor: str, now: datetime) -> Evaluation:
    """One that waits ends at once; of a running one the trainer hears within half a second. Twice changes nothing."""
    return QUEUE.cancel(job=evaluation, actor=actor, now=now)


def succeed(
    *, hold: Hold, seconds: Decimal, result: Mapping[str, Any], mistakes: Sequence[Mapping[str, Any]], now: datetime
) -> None:
    """Ends an evaluation with what it found, by its trainer in operator scope; call it last in the transaction."""
    version = QUEUE.held(hold).values_list("version__model__name", "version__number").first()
    name = "@".join(map(str, version)) if version else ""
    QUEUE.succeed(
        hold=hold, seconds=seconds, version=name, now=now, result=dict(result), mistakes=[dict(m) for m in mistakes]
    )


def _likely_seconds(tenant: Tenant, wanted: Wanted) -> tuple[Decimal | None, str]:
    """By the pace of the tenant's last evaluation of a version of the recipe; and how that is known."""
    last = (
        Evaluation.objects.for_tenant(tenant)
        .filter(version__recipe=wanted.version.recipe, state=JobState.SUCCEEDED)
        .exclude(training_seconds=None)
        .order_by("-finished_at")
        .first()
    )
    if last is None or last.training_seconds is None or not last.result:
        return None, "There is no expected figure before a first evaluation of this recipe has succeeded."
    timing = last.result["timing"]
    pace = timing["rows"] / max(timing["seconds"], 1e-3)
    seconds = max(0.0, float(last.training_seconds) - timing["seconds"]) + wanted.rows / max(pace, 1e-9)
    return (
        Decimal(f"{seconds:.3f}"),
        f"{wanted.rows} rows are expected to be answered at the pace of the evaluation {last.pk}.",
    )


def _version(tenant: Tenant, request: Request) -> ModelVersion:
    try:
        return registry.version(tenant=tenant, model_name=request.model_name, number=request.number)
    except NotFound as error:
        raise Invalid(
            error.detail, errors=(FieldError("version", "Expected the number of one of your model's versions."),)
        ) from error


def _wrong(name: str, words: str) -> Invalid:
    return Invalid(words, errors=(FieldError(name, words),))
