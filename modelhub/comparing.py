"""Versions of a model side by side: what they were made of and with, and how good they are on the same data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelhub import evaluations, registry
from modelhub.models import Evaluation, JobState, ModelVersion
from tenants.errors import FieldError, Invalid
from tenants.models import Tenant

MOST = 10

# A figure of each version, in their order; none where a version has no such figure.
Figures = dict[str, list[float | None]]


@dataclass(frozen=True, slots=True)
class OnOneDataset:
    """The newest evaluations on one split of one data set, one for each version; none where there is none."""

    dataset_id: str
    dataset_name: str
    split: str
    evaluations: Sequence[Evaluation | None]

    @property
    def metrics(self) -> Figures:
        return _side_by_side([figures(one.result["metrics"]) if one and one.result else {} for one in self.evaluations])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Versions in the order in which they were named."""

    versions: Sequence[ModelVersion]
    evaluated: Sequence[OnOneDataset]

    @property
    def metrics(self) -> Figures:
        """Of each version's own validation split, which need not be the same: see `same_dataset`."""
        return _side_by_side([figures(version.metrics) for version in self.versions])

    @property
    def parameters(self) -> dict[str, list[Any]]:
        """Those that differ."""
        names = sorted({name for version in self.versions for name in version.parameters})
        found = {name: [version.parameters.get(name) for version in self.versions] for name in names}
        return {name: values for name, values in found.items() if any(value != values[0] for value in values)}

    @property
    def same_dataset(self) -> bool:
        """Whether all of them learned from the very same content."""
        digests = {version.dataset_sha256 for version in self.versions}
        return len(digests) == 1 and digests != {""}


def compare(*, tenant: Tenant, model_name: str, numbers: Sequence[int]) -> Comparison:
    """These versions of the tenant's model; raises NotFound for one that there is not, Invalid for none or too many."""
    if not 1 <= len(numbers) <= MOST or len(set(numbers)) != len(numbers):
        words = f"Expected from 1 to {MOST} different numbers of versions, parted by commas."
        raise Invalid(f"versions: {words}", errors=(FieldError("versions", words),))
    return of([registry.version(tenant=tenant, model_name=model_name, number=number) for number in numbers])


def of(versions: Sequence[ModelVersion]) -> Comparison:
    """Versions of one tenant side by side."""
    return Comparison(versions, _evaluated(versions))


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers among metrics, and the means over classes as `macro.f1`."""
    found = {name: value for name, value in metrics.items() if _is_number(value)}
    found |= {f"macro.{name}": value for name, value in metrics.get("macro", {}).items() if _is_number(value)}
    return found


def _evaluated(versions: Sequence[ModelVersion]) -> list[OnOneDataset]:
    """What at least one of the versions was evaluated on, what most of them were first."""
    done = (
        evaluations.rows(tenant=versions[0].tenant_id)
        .filter(version__in=versions, state=JobState.SUCCEEDED)
        .select_related("dataset", "version__model")
        .order_by("finished_at")
    )
    newest = {(one.dataset_id, one.split, one.version_id): one for one in done}
    names = {one.dataset_id: one.dataset.name for one in newest.values()}
    found = [
        OnOneDataset(
            dataset_id, names[dataset_id], split, [newest.get((dataset_id, split, version.pk)) for version in versions]
        )
        for dataset_id, split in sorted({(dataset_id, split) for dataset_id, split, _ in newest})
    ]
    return sorted(found, key=lambda one: sum(each is None for each in one.evaluations))


def _side_by_side(each: Sequence[Mapping[str, float]]) -> Figures:
    names = sorted({name for found in each for name in found})
    return {name: [found.get(name) for found in each] for name in names}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
