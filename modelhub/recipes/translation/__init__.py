"""Sentences of one language into another: a Transformer with a vocabulary of its own."""

from modelhub.recipes.translation.recipe import Translator

__all__ = ["Translator"]
