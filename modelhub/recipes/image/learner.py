"""The recipe `image-classifier` at work: pictures decoded once, batches of them, loss, metrics, files for serving."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.evaluation.classes import EPSILON
from modelhub.recipes import order, schedule
from modelhub.recipes.image import convnet, recipe, seed_cnn
from modelhub.recipes.learning import Batch, Exported, Monitor
from modelhub.trainer import exporting, gate, pixels
from modelhub.trainer.pixels import Split
from modelhub.trainer.task import Reporter, Task

SCORED_ROWS = 32
SIZES = {"seed-cnn": (150, 150), "convnet": (convnet.HEIGHT, convnet.WIDTH)}

Forward = Callable[[Any, Any], Any]


class PictureLearner:
    """Learns to tell the labels of a task apart. Probabilities: (rows, 1) of the second of two, else (rows, labels)."""

    monitor = Monitor("val_accuracy", higher_is_better=True)
    steps_per_epoch: int

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parameters = task.parameters
        self._architecture: str = task.parameters["architecture"]
        self._height, self._width = SIZES[self._architecture]
        self._two = len(task.labels) == 2
        self._score: Callable[[Any], Any] | None = None
        self._scores: NDArray[np.float32] | None = None

    def read(self, *, folder: Path, report: Reporter) -> None:
        self.train, self.validation = (self._decoded(name, folder, report) for name in ("train", "validation"))
        self.begin()

    def begin(self) -> None:
        """Once there are the splits: how many steps an epoch has, and what a row of each class counts."""
        self.steps_per_epoch = order.steps_of(
            len(self.train),
            batch_size=self._parameters["batch_size"],
            steps_per_epoch=self._parameters["steps_per_epoch"],
        )
        how = self._parameters["class_weights"]
        weights = schedule.class_weights(self.train.labels, classes=len(self._task.labels), how=how)
        self._weights = None if how == "none" else tf.constant(weights)

    def build(self) -> Any:
        architectures = {"seed-cnn": seed_cnn.build, "convnet": convnet.build}
        return architectures[self._architecture](classes=len(self._task.labels))

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """(pixels uint8 (rows, height, width, 3), index of the label int32 (rows,), seed int32 (2,)), without end."""
        seed = self._parameters["seed"]
        drawn = order.places(
            len(self.train),
            batch_size=self._parameters["batch_size"],
            steps=self.steps_per_epoch,
            seed=seed,
            epoch=epoch,
            skip=skip,
        )
        for number, places in enumerate(drawn, (epoch - 1) * self.steps_per_epoch + skip):
            yield (
                self.train.rows[places],
                self.train.labels[places].astype(np.int32),
                np.array([seed, number], np.int32),
            )

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Mapping[str, Any]]:
        """Mean cross-entropy in nats; the sums are `rows` and `right`, those that were labelled as they should be."""
        rows, labels, seed = batch
        images = tf.cast(rows, tf.float32) * recipe.SCALE
        if self._architecture == "convnet":
            scores = model(convnet.augment(images, seed), training=True)
        else:
            scores = seed_cnn.forward(model)(images)
        weights = None if self._weights is None else tf.gather(self._weights, labels)
        loss = self._cross_entropy(labels, scores, weights)
        answers = tf.cast(scores[:, 0] >= recipe.THRESHOLD, tf.int32) if self._two else _largest(scores)
        right = tf.reduce_sum(tf.cast(tf.equal(answers, labels), tf.float32))
        return loss, {"rows": tf.cast(tf.shape(labels)[0], tf.float32), "right": right}

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {"accuracy": sums["right"] / sums["rows"]}

    def validate(self, model: Any) -> dict[str, float]:
        scores, truths = self.scored(model, self.validation, batches=self._parameters["validation_steps"])
        losses = (
            evaluation.cross_entropy(scores=np.ravel(scores), truths=truths)
            if self._two
            else -np.log(np.clip(scores[np.arange(len(truths)), truths], EPSILON, 1.0))
        )
        right = self._decided(scores) == truths
        return {"val_loss": float(np.mean(losses)), "val_accuracy": float(np.mean(right))}

    def evaluate(self, model: Any, *, report: Reporter) -> dict[str, Any]:
        self._scores, truths = self.scored(model, self.validation)
        report.progress("evaluating", len(truths), len(truths))
        interface = self._interface()
        return recipe.assessed(self._scores, truths, labels=interface.labels, decision=interface.decision)

    def export(self, model: Any, *, folder: Path, report: Reporter) -> Exported:
        interface = self._interface()
        files = exporting.written(model, signature=interface.signature, folder=folder, report=report)
        reference = self.scored(model, self.validation)[0] if self._scores is None else self._scores
        report.progress("checking", 0, len(self.validation))
        measured = {
            name: gate.compared(
                gate.scored(folder / name, self.validation.rows, scale=recipe.SCALE),
                reference=reference,
                truths=self.validation.labels,
                decided=self._decided,
            )
            for name in files
            if name in exporting.ENGINES
        }
        passed = gate.passing(measured)
        conversion = {"rows": len(self.validation), "served": passed[0], "passed": passed, "files": measured}
        return Exported(files=files, serving=gate.serving(passed), interface=interface, conversion=conversion)

    def scored(
        self, model: Any, split: Split, *, batches: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The model's probabilities for the rows of a split (or its first `batches`), and the rows' true labels."""
        if self._score is None:
            # One graph for all epochs. It sees the weights of the day, as they are variables.
            self._score = tf.function(
                lambda rows: model(tf.cast(rows, tf.float32) * recipe.SCALE, training=False),
                reduce_retracing=True,
                autograph=False,
            )
        most = len(split) if batches is None else min(len(split), batches * self._parameters["batch_size"])
        found = [
            np.asarray(self._score(tf.constant(split.rows[start : min(start + SCORED_ROWS, most)])))
            for start in range(0, most, SCORED_ROWS)
        ]
        return np.concatenate(found).astype(np.float32), split.labels[:most]

    def _decoded(self, name: str, folder: Path, report: Reporter) -> Split:
        return pixels.decoded(
            getattr(self._task, name),
            split=name,
            classes=self._task.labels,
            read=lambda raw: recipe.pixels_of(
                raw, height=self._height, width=self._width, max_pixels=self._task.max_pixels
            ),
            shape=(self._height, self._width, 3),
            file=folder / f"{name}.uint8",
            report=report,
        )

    def _interface(self) -> Any:
        return recipe.interface(self._task.labels, height=self._height, width=self._width)

    def _cross_entropy(self, labels: Any, scores: Any, weights: Any) -> Any:
        """Keras's mean over the rows, each times its weight."""
        if self._two:
            return keras.losses.BinaryCrossentropy()(tf.cast(labels, tf.float32)[:, None], scores, weights)
        return keras.losses.SparseCategoricalCrossentropy()(labels, scores, weights)

    def _decided(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """The indices of the labels that these scores speak for."""
        if self._two:
            return (np.ravel(scores) >= recipe.THRESHOLD).astype(np.int64)
        largest: NDArray[np.int64] = np.argmax(scores, axis=1).astype(np.int64)
        return largest


def _largest(scores: Any) -> Any:
    return tf.argmax(scores, axis=1, output_type=tf.int32)
