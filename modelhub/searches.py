"""Searches for good parameters: parents of training jobs, which tell how far it is and which of them is the best."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from modelhub import recipes, search_space, training, training_limits, training_requests
from modelhub.models import JobState, Search, SearchMethod, TrainingJob
from modelhub.recipes.base import checked
from modelhub.training_requests import Wanted
from tenants import audit
from tenants.errors import Conflict, NotFound, OverQuota
from tenants.limits import budgets, spend_caps
from tenants.limits.budgets import Budget
from tenants.models import Meter, Tenant
from tenants.pricing import quotes
from tenants.pricing.quotes import Quote


@dataclass(frozen=True, slots=True)
class Request:
    """A search as its customer words it; `budget` is for all of its trainings together."""

    dataset_id: str
    model_name: str
    recipe_name: str
    space: Mapping[str, Any]
    method: str = SearchMethod.GRID
    parameters: Mapping[str, object] = field(default_factory=dict)
    jobs: int | None = None
    seed: int = 0
    budget: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Best:
    """The training that made a version and whose epochs had the best value of the metric; which way is up there."""

    job: TrainingJob
    metric: str
    value: float
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a search is: its trainings in the order in which they were asked for, and the best one so far."""

    state: str
    jobs: Sequence[TrainingJob]
    best: Best | None

    @property
    def counts(self) -> dict[str, int]:
        """How many trainings are in each state."""
        found = Counter(job.state for job in self.jobs)
        return {state: found.get(state, 0) for state in JobState.values}


def create(*, tenant: Tenant, request: Request, actor: str, now: datetime) -> Search:
    """Queues all trainings of a search, or none: each can be done, and there is room for all of them to wait."""
    wanted = _checked(tenant, request, now)
    _check_room(tenant, len(wanted))
    spend_caps.check(tenant=tenant, now=now)
    whole = _whole_budget(tenant, request, len(wanted), now)
    search = Search.objects.create(
        tenant=tenant,
        dataset=wanted[0].dataset,
        model_name=request.model_name,
        recipe=request.recipe_name,
        parameters=dict(request.parameters),
        space=dict(request.space),
        method=request.method,
        seed=request.seed,
        budget=whole.amount if whole else None,
        budget_currency=whole.currency if whole else "",
        created_by=actor,
        created_at=now,
    )
    audit.record(
        tenant=tenant, actor=actor, verb="search.create", subject=search.pk, dataset=search.dataset_id,
        model=search.model_name, jobs=len(wanted), **({"budget": str(whole)} if whole else {}),
    )  # fmt: skip
    for one in wanted:
        training.add(tenant=tenant, wanted=one, actor=actor, now=now, search=search)
    return search


def quote(*, tenant: Tenant, request: Request, now: datetime) -> Quote:
    """What all trainings together would cost at most if they were asked for now."""
    wanted = _checked(tenant, request, now)
    limits = training_limits.of(tenant.plan)
    most = Decimal(limits.seconds) * len(wanted)
    assumes = [f"{len(wanted)} jobs of {limits.seconds} seconds at most each; one that fails is not billed."]
    assumes += [limits.in_words] if limits.in_words else []
    whole = _whole_budget(tenant, request, len(wanted), now)
    paid = budgets.pays(tenant=tenant, budget=wanted[0].budget, meter=Meter.TRAINING_SECONDS, now=now, places=3)
    if paid is not None and paid < limits.seconds:
        most = paid * len(wanted)
        assumes.append(f"Each is stopped within the {paid} seconds that its part of the budget of {whole} pays.")
    each = [training_requests.likely_seconds(tenant=tenant, wanted=one) for one in wanted]
    known = [seconds for seconds, _ in each if seconds is not None]
    likely = sum(known, Decimal(0)) if len(known) == len(each) else None
    return quotes.quote(
        tenant=tenant,
        meter=Meter.TRAINING_SECONDS,
        most=most,
        likely=None if likely is None else min(likely, most),
        assumes=(*assumes, each[0][1]),
        now=now,
    )


def rows(*, tenant: Tenant | str) -> QuerySet[Search]:
    """The tenant's searches."""
    return Search.objects.for_tenant(tenant)


def get(*, tenant: Tenant | str, search_id: str) -> Search:
    """The tenant's search of this id."""
    row = rows(tenant=tenant).filter(pk=search_id).first()
    if row is None:
        raise NotFound(f"There is no search {search_id!r}.")
    return row


def standing(search: Search) -> Standing:
    """How far a search is by now."""
    return standings([search])[search.pk]


def standings(searches: Sequence[Search]) -> dict[str, Standing]:
    """How far each of one tenant's searches is by now, in one query."""
    if not searches:
        return {}
    jobs: dict[str, list[TrainingJob]] = {search.pk: [] for search in searches}
    for job in training.rows(tenant=searches[0].tenant_id).filter(search__in=searches).order_by("created_at", "pk"):
        jobs[str(job.search_id)].append(job)
    return {pk: Standing(_state(found), found, _best(found)) for pk, found in jobs.items()}


def cancel(*, search: Search, actor: str, now: datetime) -> Search:
    """Cancels each of its trainings that is under way; what succeeded before stays. Twice changes nothing."""
    under_way = [job for job in standing(search).jobs if not job.has_ended]
    if not under_way and search.cancel_requested_at is None:
        raise Conflict(f"All trainings of the search {search.pk} have ended; only one under way can be cancelled.")
    unasked = Search.objects.for_tenant(search.tenant_id).filter(pk=search.pk, cancel_requested_at=None)
    if unasked.update(cancel_requested_at=now):
        audit.record(tenant=search.tenant_id, actor=actor, verb="search.cancel", subject=search.pk)
        for job in under_way:
            _cancel_unless_ended(job, actor, now)
    return get(tenant=search.tenant_id, search_id=search.pk)


def budget_of(search: Search) -> Budget | None:
    """The most that all trainings of the search may cost together."""
    return None if search.budget is None else budgets.restored(amount=search.budget, currency=search.budget_currency)


def _cancel_unless_ended(job: TrainingJob, actor: str, now: datetime) -> None:
    try:
        training.cancel(job=job, actor=actor, now=now)
    except Conflict:
        # It ended between the look and the cancelling, with a result that stays.
        return


def _state(jobs: Sequence[TrainingJob]) -> JobState:
    """What a search is, by its trainings: it succeeded if one of them did."""
    states = {job.state for job in jobs}
    if states <= {JobState.QUEUED}:
        return JobState.QUEUED
    for state in (JobState.RUNNING, JobState.QUEUED):
        if state in states:
            return JobState.RUNNING
    for state in (JobState.SUCCEEDED, JobState.CANCELLED):
        if state in states:
            return state
    return JobState.FAILED


def _best(jobs: Sequence[TrainingJob]) -> Best | None:
    """By the metric that the recipe watches; of equals the one that was asked for first."""
    best: Best | None = None
    for job in jobs:
        monitor, epoch = training.monitor_of(job), training.best_epoch(job)
        if epoch is None or getattr(job, "version_id", None) is None:
            continue
        value = job.history[epoch - 1][monitor.name]
        if best is None or monitor.better(value, best.value):
            best = Best(job, monitor.name, value, monitor.higher_is_better)
    return best


def _checked(tenant: Tenant, request: Request, now: datetime) -> list[Wanted]:
    """The trainings of the search, each checked as one that is asked for alone."""
    recipe = recipes.get(request.recipe_name)
    checked(recipe.parameters, request.parameters)
    points = search_space.points(
        space=request.space,
        method=request.method,
        jobs=request.jobs,
        seed=request.seed,
        parameters=recipe.parameters,
        most=settings.TRAINING_MAX_SEARCH_JOBS,
    )
    whole = _whole_budget(tenant, request, len(points), now)
    share = None if whole is None else _share(whole.amount, len(points))
    return [_wanted(tenant, request, point, share, now) for point in points]


def _wanted(tenant: Tenant, request: Request, point: Mapping[str, Any], share: Decimal | None, now: datetime) -> Wanted:
    single = training_requests.Request(
        dataset_id=request.dataset_id,
        model_name=request.model_name,
        recipe_name=request.recipe_name,
        parameters={**request.parameters, **point},
        budget=share,
    )
    return training_requests.checked(tenant=tenant, request=single, now=now)


def _share(whole: Decimal, count: int) -> Decimal:
    """An equal part in whole coins, rounded down, so that all parts together are no more than the whole."""
    return (whole / count).quantize(whole, rounding=ROUND_DOWN)


def _whole_budget(tenant: Tenant, request: Request, count: int, now: datetime) -> Budget | None:
    if request.budget is None:
        return None
    least = training_requests.LEAST_SECONDS * count
    return budgets.checked(tenant=tenant, amount=request.budget, meter=Meter.TRAINING_SECONDS, least=least, now=now)


def _check_room(tenant: Tenant, count: int) -> None:
    waiting = training.rows(tenant=tenant).filter(state=JobState.QUEUED).count()
    if waiting + count > settings.TRAINING_MAX_QUEUED_JOBS:
        raise OverQuota(
            f"The search has {count} trainings, and {waiting} training jobs of yours are waiting already; "
            f"{settings.TRAINING_MAX_QUEUED_JOBS} may. Ask for fewer, or wait until some have started.",
            retry_after=60,
        )
