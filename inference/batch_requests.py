"""What a batch prediction is asked to do: checked as far as can be known beforehand, and what it will cost at most."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from inference.models import Deployment
from modelhub import recipes
from modelhub.models import Dataset, DatasetState
from tenants.errors import Conflict, FieldError, Invalid
from tenants.limits import budgets
from tenants.limits.budgets import Budget
from tenants.models import Meter, Tenant
from tenants.pricing import quotes
from tenants.pricing.quotes import Quote


@dataclass(frozen=True, slots=True)
class Request:
    """A batch prediction as its customer words it."""

    deployment: str
    dataset_id: str
    budget: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A batch prediction that can be done: the deployment's version takes what is in the sealed data set."""

    deployment: Deployment
    dataset: Dataset
    budget: Budget | None


def checked(*, tenant: Tenant, request: Request, now: datetime) -> Wanted:
    """The batch prediction that the request words; raises Invalid or Conflict in words."""
    deployment = _deployment(tenant, request.deployment)
    dataset = _dataset(tenant, request.dataset_id)
    _check_fits(deployment, dataset)
    budget = None
    if request.budget is not None:
        budget = budgets.checked(
            tenant=tenant, amount=request.budget, meter=Meter.BATCH_PREDICTIONS, least=Decimal(1), now=now
        )
    return Wanted(deployment=deployment, dataset=dataset, budget=budget)


def quote(*, tenant: Tenant, request: Request, now: datetime) -> Quote:
    """What the batch would cost at most if it were asked for now; what creating it refuses is refused here, too."""
    wanted = checked(tenant=tenant, request=request, now=now)
    rows = Decimal(wanted.dataset.items)
    assumes = [f"All {rows:,} rows of the data set are answered; those that fail are not billed."]
    paid = budgets.pays(tenant=tenant, budget=wanted.budget, meter=Meter.BATCH_PREDICTIONS, now=now)
    if paid is not None and paid < rows:
        rows = paid
        assumes = [f"It is stopped after the {rows:,} answered rows that its budget of {wanted.budget} pays."]
    return quotes.quote(
        tenant=tenant, meter=Meter.BATCH_PREDICTIONS, most=rows, likely=rows, assumes=tuple(assumes), now=now
    )


def _deployment(tenant: Tenant, name: str) -> Deployment:
    row = Deployment.objects.for_tenant(tenant).select_related("version__model").filter(name=name).first()
    if row is None:
        raise Invalid(
            f"There is no deployment {name[:80]!r}.",
            errors=(FieldError("deployment", "Expected the name of one of your deployments."),),
        )
    if row.paused:
        raise Conflict(f"The deployment {row.name} is paused: POST /api/v1/deployments/{row.name}/resume first.")
    return row


def _dataset(tenant: Tenant, dataset_id: str) -> Dataset:
    dataset = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).first()
    if dataset is None:
        raise Invalid(
            f"There is no data set {dataset_id[:80]!r}.",
            errors=(FieldError("dataset", "Expected the id of one of your data sets."),),
        )
    if dataset.state != DatasetState.SEALED:
        raise Conflict(
            f"The data set {dataset.name} is {dataset.state}, and a batch prediction takes a sealed one: "
            f"POST /api/v1/datasets/{dataset.pk}/seal first."
        )
    return dataset


def _check_fits(deployment: Deployment, dataset: Dataset) -> None:
    recipe = deployment.version.recipe
    taken = recipes.get(recipe).dataset_kind if recipe else ""
    if taken != dataset.kind:
        wanted = f"takes {taken}" if taken else "has no recipe that reads files"
        raise Invalid(
            f"The version {deployment.version} of {deployment.name} {wanted}; "
            f"the data set {dataset.name} is {dataset.kind}.",
            errors=(FieldError("deployment", f"Expected one whose model takes {dataset.kind}."),),
        )
