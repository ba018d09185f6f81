"""The parameters that every recipe's training has: how long, how fast, when to stop; and the weights of classes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelhub.recipes.base import Parameter, Value

SCHEDULES = ("constant", "cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced")

PARAMETERS = (
    Parameter("epochs", "integer", "How often to go through the training split.", 10, minimum=1, maximum=1000),
    Parameter("batch_size", "integer", "Rows of one training step.", 32, minimum=1, maximum=4096),
    Parameter("learning_rate", "number", "How far each step of Adam goes.", 0.001, minimum=1e-6, maximum=1.0),
    Parameter(
        "schedule",
        "choice",
        "How the learning rate goes on after its warm-up: it stays, or falls to nothing by the last step.",
        "constant",
        choices=SCHEDULES,
    ),
    Parameter(
        "warmup_steps",
        "integer",
        "Steps over which the learning rate rises from nothing.",
        0,
        minimum=0,
        maximum=1_000_000,
    ),
    Parameter(
        "weight_decay",
        "number",
        "How much of each weight is taken away a step, times the learning rate; biases and norms are left alone.",
        0.0,
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "clip_norm",
        "number",
        "The longest that a step's gradient, of all weights together, may be; null leaves it as it is.",
        None,
        minimum=1e-3,
        maximum=1e6,
    ),
    Parameter(
        "early_stopping",
        "integer",
        "Epochs without a better one after which to stop; null goes through all of them.",
        None,
        minimum=1,
        maximum=1000,
    ),
    Parameter(
        "steps_per_epoch",
        "integer",
        "Batches in an epoch; null takes as many as show each row once.",
        None,
        minimum=1,
        maximum=1_000_000,
    ),
    Parameter(
        "validation_steps",
        "integer",
        "Batches to validate on after each epoch; null takes the whole validation split.",
        None,
        minimum=1,
        maximum=1_000_000,
    ),
    Parameter(
        "seed",
        "integer",
        "Fixes the first weights and the order of the rows: the same seed on the same machine, the same model.",
        0,
        minimum=0,
        maximum=2**31 - 1,
    ),
)
OF_CLASSIFIERS = (
    Parameter(
        "class_weights",
        "choice",
        "How much a row counts: alike, or the more the rarer its class is.",
        "none",
        choices=CLASS_WEIGHTS,
    ),
)


def training_parameters(
    *, classifier: bool = False, by_architecture: Mapping[str, Mapping[str, Value]] | None = None, **defaults: Value
) -> tuple[Parameter, ...]:
    """The parameters of a training with a recipe's own defaults, which may differ by its parameter `architecture`.

    Raises TypeError for a default of a parameter that there is not, ValueError for one that it may not have.
    """
    parameters = PARAMETERS + (OF_CLASSIFIERS if classifier else ())
    by_architecture = by_architecture or {}
    names = {parameter.name for parameter in parameters}
    if unknown := set(defaults).union(*by_architecture.values()) - names:
        raise TypeError(f"There are no training parameters {', '.join(sorted(unknown))}; there are {', '.join(names)}.")
    found = tuple(
        replace(
            parameter,
            default=defaults.get(parameter.name, parameter.default),
            defaults={key: some[parameter.name] for key, some in by_architecture.items() if parameter.name in some},
            # What may be left open stays so where the recipe's own default is a value.
            nullable=parameter.default is None,
        )
        for parameter in parameters
    )
    for parameter in found:
        for value in (parameter.default, *parameter.defaults.values()):
            if not parameter.accepts(value):
                raise ValueError(f"{parameter.name} cannot be {value!r} by default; expected {parameter.expected}.")
    return found


def class_weights(labels: NDArray[np.int64], *, classes: int, how: str) -> NDArray[np.float32]:
    """The weight of each class, float32 (classes,): all 1, or rows / (classes × rows of the class).

    As scikit-learn's `balanced` has it; a class without a row weighs nothing.
    """
    if how == "none":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, len(labels) / (classes * np.maximum(counts, 1)), 0.0).astype(np.float32)
