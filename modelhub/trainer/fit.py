"""The training loop: batches in, weights moved, metrics of each epoch out."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.recipes.base import Recipe
from modelhub.trainer.adam import FusedAdam
from modelhub.trainer.deadline import Deadline
from modelhub.trainer.pixels import Split
from modelhub.trainer.task import BATCH, Failure, Reporter

THRESHOLD = 0.5

Step = Callable[[Any, Any], tuple[Any, Any]]


def be_repeatable(seed: int) -> None:
    """For the start of a process: the same seed on the same machine gives the same weights, bit by bit."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fit(
    model: Any,
    *,
    recipe: Recipe,
    parameters: Mapping[str, Any],
    train: Split,
    validation: Split,
    report: Reporter,
    deadline: Deadline | None = None,
) -> list[dict[str, Any]]:
    """Trains the model; gives the metrics of each epoch. Raises Failure when the loss stops being a number.

    Batches go on from epoch to epoch: a `steps_per_epoch` that is less than a whole pass sees new pictures in the next.
    At the deadline the epoch ends where it is, and is the last.
    """
    steps = parameters["steps_per_epoch"] or math.ceil(len(train) / BATCH)
    step = training_step(model, recipe=recipe, parameters=parameters)
    # As many as are used: an iterator that is dropped while it still fetches may take as long again to end.
    in_all = steps * parameters["epochs"]
    batches = iter(train.batches(shuffle_seed=parameters["seed"]).repeat().take(in_all).prefetch(2))
    history = []
    for epoch in range(1, parameters["epochs"] + 1):
        measured = run_epoch(
            step, batches, epoch=epoch, epochs=parameters["epochs"], steps=steps, report=report, deadline=deadline
        )
        scores, truths = scored(model, validation, recipe=recipe, batches=parameters["validation_steps"])
        measured["val_loss"] = float(np.mean(evaluation.cross_entropy(scores=scores, truths=truths)))
        measured["val_accuracy"] = float(np.mean((scores >= THRESHOLD) == truths))
        report.epoch(measured)
        history.append(measured)
        if deadline is not None and deadline.passed:
            break
    return history


def training_step(model: Any, *, recipe: Recipe, parameters: Mapping[str, Any]) -> Step:
    """One step of Adam on binary cross-entropy: (rows uint8, labels) → (mean loss, right answers) before the step."""
    forward = recipe.forward(model, parameters)
    loss_of = keras.losses.BinaryCrossentropy()
    optimizer = FusedAdam(parameters["learning_rate"])
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(rows: Any, labels: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            scores = forward(tf.cast(rows, tf.float32) * recipe.scale)
            loss = loss_of(labels, scores)
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]))
        right = tf.equal(tf.cast(scores >= THRESHOLD, tf.float32), labels)
        return loss, tf.reduce_sum(tf.cast(right, tf.int32))

    answer: Step = step
    return answer


def scored(
    model: Any, split: Split, *, recipe: Recipe, batches: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The model's scores for the rows of a split (or its first `batches`), and the rows' true labels, in its order."""

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def score(rows: Any) -> Any:
        return model(tf.cast(rows, tf.float32) * recipe.scale, training=False)

    found = [np.ravel(score(rows)) for rows, _ in split.batches().take(batches or -1).prefetch(2)]
    scores = np.concatenate(found).astype(np.float32)
    return scores, split.labels[: len(scores)]


def run_epoch(
    step: Step,
    batches: Iterator[Any],
    *,
    epoch: int,
    epochs: int,
    steps: int,
    report: Reporter,
    deadline: Deadline | None = None,
) -> dict[str, Any]:
    """Moves the weights by so many batches; gives the metrics of the epoch, as Keras means loss and accuracy."""
    started = time.monotonic()
    total_loss, right, rows_seen = 0.0, 0, 0
    for number in range(1, steps + 1):
        rows, labels = next(batches)
        loss, correct = step(rows, labels)
        if not math.isfinite(loss):
            raise Failure(
                f"The loss became {float(loss)} in epoch {epoch} at step {number} of {steps}: the weights ran away. "
                "A smaller learning_rate usually helps."
            )
        total_loss += float(loss) * len(labels)
        right += int(correct)
        rows_seen += len(labels)
        report.progress("training", number, steps, epoch=epoch, epochs=epochs)
        if deadline is not None and deadline.look(len(labels)):
            report.log(f"Stopped here, to have {deadline.seconds_left:.0f} seconds for the version within the budget.")
            break
    seconds = time.monotonic() - started
    return {
        "epoch": epoch,
        "loss": total_loss / rows_seen,
        "accuracy": right / rows_seen,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows_seen / seconds, 1),
    }
