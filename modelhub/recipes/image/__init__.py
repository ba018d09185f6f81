"""Pictures into classes: a small network or residual convolutions."""

from modelhub.recipes.image.recipe import ImageClassifier

__all__ = ["ImageClassifier"]
