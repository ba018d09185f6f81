"""The recipes: a new one is a folder here, copied from a sibling, and one line below."""

from modelhub.recipes.image import ImageClassifier
from modelhub.recipes.learning import LearningRecipe
from modelhub.recipes.speech import SpeechRecognizer
from modelhub.recipes.tabular import Tabular
from modelhub.recipes.text import TextClassifier
from modelhub.recipes.translation import Translator
from tenants.errors import FieldError, Invalid

_EACH: tuple[LearningRecipe, ...] = (
    ImageClassifier(),
    SpeechRecognizer(),
    Tabular(),
    TextClassifier(),
    Translator(),
)
RECIPES: dict[str, LearningRecipe] = {recipe.name: recipe for recipe in _EACH}


def get(name: str) -> LearningRecipe:
    """The recipe of this name; raises Invalid that lists those that exist."""
    if name not in RECIPES:
        expected = f"expected one of {', '.join(sorted(RECIPES))}"
        raise Invalid(
            f"There is no recipe {name!r}; {expected}.", errors=(FieldError("recipe", f"Unknown recipe; {expected}."),)
        )
    return RECIPES[name]
