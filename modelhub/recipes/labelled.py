"""What all recipes that answer with one of several labels have in common, at training and at serving."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.signatures import BYTES, DYNAMIC, TensorSpec

# A probability below it costs no more than it.
SMALLEST = 1e-7


def outputs_of(labels: Sequence[str]) -> tuple[TensorSpec, ...]:
    """The outputs of a signature: the likeliest label of each row, its probability, and that of each label."""
    return (
        TensorSpec("label", BYTES, (DYNAMIC,)),
        TensorSpec("score", "float32", (DYNAMIC,)),
        TensorSpec("scores", "float32", (DYNAMIC, len(labels))),
    )


def decoded(scores: NDArray[Any], labels: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those outputs, of the probabilities float32 (rows, classes)."""
    likeliest = np.argmax(scores, axis=1)
    names = np.array([label.encode() for label in labels], object)
    return {"label": names[likeliest], "score": scores[np.arange(len(scores)), likeliest], "scores": scores}


def answered(outputs: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Those outputs for one row, as JSON has them."""
    scores = {label: round(float(one), 6) for label, one in zip(labels, outputs["scores"], strict=True)}
    label = outputs["label"].item().decode()
    return {"label": label, "score": scores[label], "scores": scores}


def assessed(scores: NDArray[Any], truths: Sequence[str], *, labels: Sequence[str]) -> dict[str, Any]:
    """The metrics of probabilities (rows, classes); a true label that the model does not know is always missed."""
    every = [*labels, *sorted(set(truths) - set(labels))]
    places = {label: place for place, label in enumerate(every)}
    wide = np.pad(np.asarray(scores, np.float64), ((0, 0), (0, len(every) - len(labels))))
    numbers = np.array([places[truth] for truth in truths], np.int64)
    return evaluation.classification(scores=wide, truths=numbers, labels=every)


def quick_metrics(scores: NDArray[np.float32], truths: NDArray[np.int64], labels: Sequence[str]) -> dict[str, float]:
    """What is told of each epoch: the loss, the accuracy, and the mean F1 over classes."""
    found = evaluation.classification(scores=scores, truths=truths, labels=labels)
    return {"val_loss": found["loss"], "val_accuracy": found["accuracy"], "val_macro_f1": found["macro"]["f1"]}


def loss_of(scores: Any, truths: Any, weights: Any, *, smoothing: float) -> tuple[Any, dict[str, Any]]:
    """Mean cross-entropy of probabilities (rows, classes), traced: truths int64 (rows,), weights float32 (rows,).

    Of the truth's probability 1 - `smoothing` is asked, the rest is shared out among all classes (Szegedy et al.,
    Rethinking the Inception Architecture, 2015). The sums are the rows and how many of them were right.
    """
    import tensorflow as tf

    classes = scores.shape[-1]
    wanted = tf.one_hot(truths, classes) * (1.0 - smoothing) + smoothing / classes
    losses = -tf.reduce_sum(wanted * tf.math.log(tf.maximum(scores, SMALLEST)), axis=-1)
    right = tf.equal(tf.argmax(scores, axis=-1), truths)
    sums = {"rows": tf.cast(tf.size(truths), tf.float32), "right": tf.reduce_sum(tf.cast(right, tf.float32))}
    return tf.reduce_mean(losses * weights), sums
