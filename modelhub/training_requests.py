"""What a training is asked to do: checked as far as can be known beforehand, and what it will cost at most."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from modelhub import datasets, recipes, training_limits
from modelhub.models import Dataset, DatasetState, JobState, ModelVersion, TrainingJob
from modelhub.recipes import base
from tenants.errors import Conflict, FieldError, Invalid
from tenants.limits import budgets
from tenants.limits.budgets import Budget
from tenants.models import Meter, Tenant
from tenants.pricing import quotes
from tenants.pricing.quotes import Quote

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
# Starting, converting and checking alone take longer.
LEAST_SECONDS = Decimal(10)
# How many of the tenant's last jobs a quote looks at for one like it.
EARLIER_JOBS = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A training as its customer words it."""

    dataset_id: str
    model_name: str
    recipe_name: str
    parameters: Mapping[str, object]
    budget: Decimal | None = None
    # id of a version of the same recipe, whose weights to begin with
    warm_start: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A training that can be done: all parameters of the recipe have a value, and the data set is sealed."""

    dataset: Dataset
    model_name: str
    recipe: str
    parameters: dict[str, Any]
    budget: Budget | None
    warm_start: ModelVersion | None = None


def checked(*, tenant: Tenant, request: Request, now: datetime) -> Wanted:
    """The training that the request words; raises Invalid or Conflict in words."""
    if not MODEL_NAME.fullmatch(request.model_name):
        expected = "Expected 1 to 60 letters, digits, '_', '-' or '.', the first a letter or digit."
        raise Invalid(
            f"{request.model_name[:80]!r} is no name for a model. {expected}", errors=(FieldError("model", expected),)
        )
    recipe = recipes.get(request.recipe_name)
    values = base.checked(recipe.parameters, request.parameters)
    dataset = sealed_dataset(tenant=tenant, dataset_id=request.dataset_id, verb="trained on")
    if dataset.kind != recipe.dataset_kind:
        raise Invalid(
            f"The recipe {recipe.name} learns from {recipe.dataset_kind}; "
            f"the data set {dataset.name} is {dataset.kind}.",
            errors=(FieldError("dataset", f"Expected a data set of the kind {recipe.dataset_kind}."),),
        )
    recipe.check(datasets.load_manifest(dataset), values)
    return Wanted(
        dataset=dataset,
        model_name=request.model_name,
        recipe=recipe.name,
        parameters=values,
        budget=_budget(tenant, request.budget, now),
        warm_start=_warm_start(tenant, request, recipe=recipe.name, parameters=values, dataset=dataset),
    )


def again(*, tenant: Tenant, job: TrainingJob, dataset_id: str, warm: bool, budget: Decimal | None = None) -> Request:
    """The request of a training like an earlier one on another data set, perhaps with the weights that it made."""
    made = ModelVersion.objects.for_tenant(tenant).filter(job=job).first()
    if warm and made is None:
        raise Conflict(
            f"The training job {job.pk} made no version whose weights could be begun with; its state is {job.state}."
        )
    known = {parameter.name for parameter in recipes.get(job.recipe).parameters}
    return Request(
        dataset_id=dataset_id or job.dataset_id,
        model_name=job.model_name,
        recipe_name=job.recipe,
        parameters={name: value for name, value in job.parameters.items() if name in known},
        budget=budget,
        warm_start=made.pk if warm and made is not None else "",
    )


def _warm_start(
    tenant: Tenant, request: Request, *, recipe: str, parameters: Mapping[str, Any], dataset: Dataset
) -> ModelVersion | None:
    """The version to begin with, as far as it can be known that its weights fit: the training checks each of them."""
    if not request.warm_start:
        return None
    version = ModelVersion.objects.for_tenant(tenant).select_related("model").filter(pk=request.warm_start).first()
    if version is None:
        raise _misfit(
            f"There is no version {request.warm_start[:80]!r}.", "Expected the id of one of your model versions."
        )
    if version.recipe != recipe:
        made_by = f"was made by the recipe {version.recipe}" if version.recipe else "was not trained here"
        raise _misfit(f"{version} {made_by}.", f"Expected a version of the recipe {recipe}.")
    before, wanted = version.parameters.get("architecture"), parameters.get("architecture")
    if before and before != wanted:
        raise _misfit(f"{version} has the architecture {before}.", f"Expected one with the architecture {wanted}.")
    labels, classes = version.manifest["labels"], datasets.load_manifest(dataset).classes
    if labels and classes and len(labels) != len(classes):
        raise _misfit(f"{version} tells {len(labels)} classes apart.", f"Expected one that tells {len(classes)} apart.")
    return version


def _misfit(what: str, expected: str) -> Invalid:
    return Invalid(
        f"The training cannot begin with these weights: {what} {expected}", errors=(FieldError("warm_start", expected),)
    )


def quote(*, tenant: Tenant, request: Request, now: datetime) -> Quote:
    """What the training would cost at most if it were asked for now; what creating it refuses is refused here, too."""
    wanted = checked(tenant=tenant, request=request, now=now)
    limits = training_limits.of(tenant.plan)
    most = Decimal(limits.seconds)
    assumes = [f"A job takes {most} seconds at most, and one that fails is not billed."]
    assumes += [limits.in_words] if limits.in_words else []
    paid = budgets.pays(tenant=tenant, budget=wanted.budget, meter=Meter.TRAINING_SECONDS, now=now, places=3)
    if paid is not None and paid < most:
        most = paid
        assumes.append(f"It is stopped within the {paid} seconds that its budget of {wanted.budget} pays.")
    likely, how = likely_seconds(tenant=tenant, wanted=wanted)
    return quotes.quote(
        tenant=tenant,
        meter=Meter.TRAINING_SECONDS,
        most=most,
        likely=None if likely is None else min(likely, most),
        assumes=(*assumes, how),
        now=now,
    )


def likely_seconds(*, tenant: Tenant, wanted: Wanted) -> tuple[Decimal | None, str]:
    """How long it is likely to take, by the pace of an earlier job of the recipe; and how that is known."""
    rows = _rows_to_train(wanted)
    if rows is None:
        return None, f"The recipe {wanted.recipe} does not say how many rows it trains, so that no time is expected."
    earlier = _most_alike(tenant, wanted)
    if earlier is None or earlier.training_seconds is None:
        return None, "There is no expected figure before a first job of this recipe has succeeded."
    trained, seen = _paced(earlier)
    seconds = max(0.0, float(earlier.training_seconds) - trained) + rows * trained / max(seen, 1)
    return Decimal(f"{seconds:.3f}"), f"{rows} rows are expected to be trained at the pace of the job {earlier.pk}."


def _most_alike(tenant: Tenant, wanted: Wanted) -> TrainingJob | None:
    """Of the tenant's last jobs of the recipe that succeeded, the one with the most equal parameters, the newest first.

    What is chosen from words (an architecture, a tokenizer) decides the pace more than any number does.
    """
    done = TrainingJob.objects.for_tenant(tenant).filter(recipe=wanted.recipe, state=JobState.SUCCEEDED)
    choices = {parameter.name for parameter in recipes.get(wanted.recipe).parameters if parameter.kind == "choice"}

    def likeness(job: TrainingJob) -> tuple[int, int]:
        same = {name for name, value in wanted.parameters.items() if job.parameters.get(name) == value}
        return len(same & choices), len(same)

    jobs = [job for job in done.exclude(history=[]).order_by("-finished_at")[:EARLIER_JOBS] if _paced(job)[1]]
    return max(jobs, key=likeness, default=None)


def _paced(job: TrainingJob) -> tuple[float, float]:
    """The seconds that a job's epochs took, and the rows that it saw in them."""
    timed = [(e["seconds"], e["rows_per_second"]) for e in job.history if {"seconds", "rows_per_second"} <= e.keys()]
    return sum(seconds for seconds, _ in timed), sum(seconds * pace for seconds, pace in timed)


def _rows_to_train(wanted: Wanted) -> int | None:
    """The rows of all epochs; none if the recipe has no epochs, or steps that are not of so many rows."""
    epochs, steps = (wanted.parameters.get(name) for name in ("epochs", "steps_per_epoch"))
    if epochs is None or (steps and "batch_size" not in wanted.parameters):
        return None
    if steps:
        return int(epochs) * int(steps) * int(wanted.parameters["batch_size"])
    return int(epochs) * rows_of(datasets.load_manifest(wanted.dataset).of("train"))


def rows_of(items: Iterable[datasets.Item]) -> int:
    """How many rows items of a data set are: a file of rows says how many it has, any other is one."""
    return sum(int(item.facts.get("rows", 1)) for item in items)


def _budget(tenant: Tenant, amount: Decimal | None, now: datetime) -> Budget | None:
    if amount is None:
        return None
    return budgets.checked(tenant=tenant, amount=amount, meter=Meter.TRAINING_SECONDS, least=LEAST_SECONDS, now=now)


def sealed_dataset(*, tenant: Tenant, dataset_id: str, verb: str) -> Dataset:
    """The tenant's data set of this id, on which a model can be `verb`; raises Invalid or Conflict."""
    dataset = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).first()
    if dataset is None:
        raise Invalid(
            f"There is no data set {dataset_id[:80]!r}.",
            errors=(FieldError("dataset", "Expected the id of one of your data sets."),),
        )
    if dataset.state != DatasetState.SEALED:
        raise Conflict(
            f"The data set {dataset.name} is {dataset.state}, and a model is {verb} a sealed one: "
            f"POST /api/v1/datasets/{dataset.pk}/seal first."
        )
    return dataset
