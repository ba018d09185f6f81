"""The serving side of a version: pictures are prepared for its engine, everything else goes through its pipeline."""

from typing import Protocol, runtime_checkable

from modelhub import recipes
from modelhub.recipes.base import Manifest, Served
from modelhub.recipes.learning import PathOf, Pipeline


@runtime_checkable
class OfPictures(Protocol):
    """A recipe whose versions take the tensors of their engine, and files that become such a tensor."""

    def served(self, manifest: Manifest) -> Served: ...


@runtime_checkable
class OfPipelines(Protocol):
    """A recipe whose versions take something else than the tensors of their engine."""

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> Pipeline: ...


def has_pipeline(manifest: Manifest) -> bool:
    """Whether a version's engine has tensors of its own, behind the signature."""
    return "tensors" in manifest["serving"]


def pipeline(name: str, manifest: Manifest, path_of: PathOf) -> Pipeline | None:
    """The pipeline of a version of the recipe of this name; none if its engine takes the signature's own tensors."""
    if not has_pipeline(manifest):
        return None
    recipe: object = recipes.get(name)
    if not isinstance(recipe, OfPipelines):
        raise TypeError(f"The recipe {name} makes no pipelines, and a version of it has tensors behind its signature.")
    return recipe.pipeline(manifest, path_of)


def served(name: str, manifest: Manifest) -> Served | None:
    """What a version of the recipe of this name does around its model; none if it has a pipeline, or no recipe."""
    if not name or has_pipeline(manifest):
        return None
    recipe: object = recipes.get(name)
    if not isinstance(recipe, OfPictures):
        raise TypeError(f"The recipe {name} serves through pipelines only, and a version of it has no tensors for one.")
    return recipe.served(manifest)
