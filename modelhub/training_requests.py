"""What a training is asked to do: checked as far as can be known beforehand, and what it will cost at most."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from modelhub import datasets, recipes
from modelhub.models import Dataset, DatasetState, JobState, TrainingJob
from modelhub.recipes import base
from tenants import budgets, quotes
from tenants.budgets import Budget
from tenants.errors import Conflict, FieldError, Invalid
from tenants.models import Meter, Tenant
from tenants.quotes import Quote

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
# Starting, converting and checking alone take longer.
LEAST_SECONDS = Decimal(10)


@dataclass(frozen=True, slots=True)
class Request:
    """A training as its customer words it."""

    dataset_id: str
    model_name: str
    recipe_name: str
    parameters: Mapping[str, object]
    budget: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A training that can be done: all parameters of the recipe have a value, and the data set is sealed."""

    dataset: Dataset
    model_name: str
    recipe: str
    parameters: dict[str, Any]
    budget: Budget | None


def checked(*, tenant: Tenant, request: Request, now: datetime) -> Wanted:
    """The training that the request words; raises Invalid or Conflict in words."""
    if not MODEL_NAME.fullmatch(request.model_name):
        expected = "Expected 1 to 60 letters, digits, '_', '-' or '.', the first a letter or digit."
        raise Invalid(
            f"{request.model_name[:80]!r} is no name for a model. {expected}", errors=(FieldError("model", expected),)
        )
    recipe = recipes.get(request.recipe_name)
    values = base.checked(recipe.parameters, request.parameters)
    dataset = _dataset(tenant, request.dataset_id)
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
    )


def quote(*, tenant: Tenant, request: Request, now: datetime) -> Quote:
    """What the training would cost at most if it were asked for now; what creating it refuses is refused here, too."""
    wanted = checked(tenant=tenant, request=request, now=now)
    most = Decimal(settings.TRAINING_MAX_SECONDS)
    assumes = [f"A job takes {most} seconds at most, and one that fails is not billed."]
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


def _likely_seconds(tenant: Tenant, wanted: Wanted) -> tuple[Decimal | None, str]:
    """How long it is likely to take, by the pace of the tenant's last job of the recipe; and how that is known."""
    like = TrainingJob.objects.for_tenant(tenant).filter(recipe=wanted.recipe, state=JobState.SUCCEEDED)
    alike = (
        {"parameters__architecture": wanted.parameters["architecture"]} if "architecture" in wanted.parameters else {}
    )
    last = like.filter(**alike).exclude(history=[]).order_by("-finished_at").first()
    if last is None or last.training_seconds is None:
        return None, "There is no expected figure before a first job of this recipe has succeeded."
    trained = sum(epoch["seconds"] for epoch in last.history)
    seen = sum(epoch["seconds"] * epoch["rows_per_second"] for epoch in last.history)
    rows = _rows_to_train(wanted)
    seconds = float(last.training_seconds) - trained + rows * trained / max(seen, 1)
    return Decimal(f"{seconds:.3f}"), f"{rows} rows are expected to be trained at the pace of the job {last.pk}."


def _rows_to_train(wanted: Wanted) -> int:
    """How many rows it sees in all its epochs: an item is one, unless it is a file of rows."""
    items = datasets.load_manifest(wanted.dataset).of("train")
    steps, parameters = wanted.parameters["steps_per_epoch"], wanted.parameters
    rows = steps * parameters["batch_size"] if steps else sum(int(item.facts.get("rows", 1)) for item in items)
    return int(parameters["epochs"]) * rows


def _budget(tenant: Tenant, amount: Decimal | None, now: datetime) -> Budget | None:
    if amount is None:
        return None
    return budgets.checked(tenant=tenant, amount=amount, meter=Meter.TRAINING_SECONDS, least=LEAST_SECONDS, now=now)


def _dataset(tenant: Tenant, dataset_id: str) -> Dataset:
    dataset = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).first()
    if dataset is None:
        raise Invalid(
            f"There is no data set {dataset_id[:80]!r}.",
            errors=(FieldError("dataset", "Expected the id of one of your data sets."),),
        )
    if dataset.state != DatasetState.SEALED:
        raise Conflict(
            f"The data set {dataset.name} is {dataset.state}, and a model is trained on a sealed one: "
            f"POST /api/v1/datasets/{dataset.pk}/seal first."
        )
    return dataset
