"""Texts into classes: embeddings with convolutions or a GRU, over subwords or words."""

from modelhub.recipes.text.recipe import TextClassifier

__all__ = ["TextClassifier"]
