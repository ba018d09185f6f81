"""How good a model is on rows that it did not learn from; numpy alone, so that any process may ask."""

from modelhub.evaluation.classes import binary, categorical_cross_entropy, classification, cross_entropy, two_columns
from modelhub.evaluation.confidence import calibration, thresholds
from modelhub.evaluation.quantities import regression
from modelhub.evaluation.translations import bleu
from modelhub.evaluation.words import edits, word_error_rate

__all__ = [
    "binary",
    "bleu",
    "calibration",
    "categorical_cross_entropy",
    "classification",
    "cross_entropy",
    "edits",
    "regression",
    "thresholds",
    "two_columns",
    "word_error_rate",
]
