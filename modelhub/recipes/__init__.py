"""The recipes: a new one is one file here, and one line below."""

from modelhub.recipes.image import ImageClassifier
from modelhub.recipes.learning import LearningRecipe
from modelhub.recipes.translation import Translator
from tenants.errors import FieldError, Invalid

RECIPES: dict[str, LearningRecipe] = {recipe.name: recipe for recipe in (ImageClassifier(), Translator())}


def get(name: str) -> LearningRecipe:
    """The recipe of this name; raises Invalid that lists those that exist."""
    if name not in RECIPES:
        expected = f"expected one of {', '.join(sorted(RECIPES))}"
        raise Invalid(
            f"There is no recipe {name!r}; {expected}.", errors=(FieldError("recipe", f"Unknown recipe; {expected}."),)
        )
    return RECIPES[name]
