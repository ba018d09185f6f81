"""The training loop: batches in, weights moved, metrics of each epoch out, and the best epoch's weights at the end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from modelhub import heap
from modelhub.recipes.learning import Batch, Learner
from modelhub.trainer import ahead, checkpoints
from modelhub.trainer.adam import FusedAdam, Rate
from modelhub.trainer.checkpoints import Arrays, Checkpoint, Place
from modelhub.trainer.pace import Pace
from modelhub.trainer.saving import Saver
from modelhub.trainer.task import STOP_FILE, Failure, NothingToKeep, Reporter

Step = Callable[..., tuple[Any, Mapping[str, Any]]]
Metrics = dict[str, Any]


def be_repeatable(seed: int) -> None:
    """For the start of a process: the same seed on the same machine gives the same weights, bit by bit."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def optimizer_of(model: Any, *, parameters: Mapping[str, Any], steps: int) -> FusedAdam:
    """The optimizer that these parameters ask for, built for the model and so many steps in all."""
    rate = Rate(
        parameters["learning_rate"],
        schedule=parameters["schedule"],
        warmup_steps=parameters["warmup_steps"],
        steps=steps,
    )
    optimizer = FusedAdam(rate, decay=parameters["weight_decay"], clip_norm=parameters["clip_norm"])
    optimizer.build(model.trainable_variables)
    return optimizer


def training_step(model: Any, *, learner: Learner, optimizer: FusedAdam) -> Step:
    """One step on one batch: (mean loss before the step, the learner's sums), float32 scalars.

    Each shape of batch has a graph of its own, or all have one if the learner says `batch_signature`. Graphs that grow
    with the shapes seen so far would round differently in a job that was taken over.
    """

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=getattr(learner, "batch_signature", None), autograph=False
    )
    def step(*batch: Any) -> tuple[Any, Mapping[str, Any]]:
        with tf.GradientTape() as tape:
            loss, sums = learner.loss(model, batch)
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables)
        return loss, sums

    answer: Step = step
    return answer


class Fit:
    """One training of one model, from its beginning or from a checkpoint, to its end, its deadline, or a stop."""

    def __init__(
        self,
        learner: Learner,
        model: Any,
        *,
        parameters: Mapping[str, Any],
        folder: Path,
        report: Reporter,
        pace: Pace,
        saver: Saver | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._learner = learner
        self._model = model
        self._epochs: int = parameters["epochs"]
        self._patience: int | None = parameters["early_stopping"]
        self._report = report
        self._pace = pace
        self._saver = saver
        self._stop_file = folder / STOP_FILE
        self._optimizer = optimizer_of(model, parameters=parameters, steps=self._epochs * learner.steps_per_epoch)
        self._step = training_step(model, learner=learner, optimizer=self._optimizer)
        self.place = Place()
        self._best: Arrays = []
        # What ended it before its last epoch: "", "deadline", "stop" or "early".
        self.ended_by = ""
        if checkpoint is not None:
            self._restore(checkpoint)

    def run(self) -> list[Metrics]:
        """Trains; gives the metrics of each epoch, and leaves the model with the best one's weights.

        Raises Failure when the loss stops being a number, and NothingToKeep when it is stopped before its first step.
        """
        while self.place.epoch <= self._epochs and not self._is_over():
            self._run_epoch()
        self._take_best()
        return self.place.history

    def _is_over(self) -> bool:
        """Whether no further step is to be made."""
        if not self.ended_by and self._stop_file.exists():
            self.ended_by = "stop"
            if not self.place.history and not self.place.steps:
                raise NothingToKeep
        if not self.ended_by and self.place.history and self._pace.is_late():
            self._end_late()
        unbettered = len(self.place.history) - self.place.best_epoch
        if not self.ended_by and self._patience and self.place.history and unbettered >= self._patience:
            self.ended_by = "early"
            self._report.log(f"Stopped early: no epoch since {self.place.best_epoch} was better.")
        return bool(self.ended_by) and not self.place.steps

    def train_epoch(self) -> None:
        """The steps of the epoch that are still to be done, or as many as there is time for."""
        steps, place = self._learner.steps_per_epoch, self.place
        batches = self._learner.batches(epoch=place.epoch, skip=place.steps)
        with ahead.fetched(batches, most=steps - place.steps) as coming:
            self._train(coming, steps)
        heap.give_back()  # batches of many lengths leave holes, which would become more from epoch to epoch

    def _run_epoch(self) -> None:
        place = self.place
        self.train_epoch()
        measured = self._measured()
        place.history.append(measured)
        self._compare(measured)
        place.epoch, place.steps, place.loss_sum, place.sums, place.seconds = place.epoch + 1, 0, 0.0, {}, 0.0
        self._report.epoch(measured)
        if self._saver is not None and not self.ended_by:
            self._saver.after_epoch(self._checkpoint)

    def _train(self, batches: Iterator[Batch], steps: int) -> None:
        place = self.place
        before, began = place.seconds, time.monotonic()
        while place.steps < steps and not self._is_to_stop():
            loss, sums = self._step(*next(batches))
            place.steps += 1
            self._add(float(loss), sums, steps)
            place.seconds = before + time.monotonic() - began
            rows = int(sums["rows"])
            left = self._pace.after_step(rows, self._left(steps))
            self._report.progress(
                "training", place.steps, steps, epoch=place.epoch, epochs=self._epochs, seconds_left=left
            )  # fmt: skip
            if self._saver is not None and place.steps < steps:
                self._saver.within_epoch(self._checkpoint)

    def _is_to_stop(self) -> bool:
        """Whether the epoch is to end where it is, because of the deadline or of the customer."""
        if self.place.steps and self._pace.is_late():
            self._end_late()
        elif self.place.steps and self._stop_file.exists():
            self.ended_by = "stop"
            self._report.log("Stopped here, as it was asked for; the best so far is kept.")
        return bool(self.ended_by)

    def _end_late(self) -> None:
        self.ended_by = "deadline"
        left = self._pace.seconds_to_deadline
        self._report.log(f"Stopped here, to have {left:.0f} seconds for the version within the budget.")

    def _add(self, loss: float, sums: Mapping[str, Any], steps: int) -> None:
        place = self.place
        if not math.isfinite(loss):
            what = "NaN" if math.isnan(loss) else "infinite"
            raise Failure(
                f"The loss became {what} at step {place.steps} of {steps} in epoch {place.epoch}: the weights ran "
                "away. A smaller learning_rate usually helps, and so does a clip_norm."
            )
        place.loss_sum += loss * float(sums["rows"])
        for name, value in sums.items():
            place.sums[name] = place.sums.get(name, 0.0) + float(value)

    def _measured(self) -> Metrics:
        """The metrics of the epoch that has just been trained, as Keras means them."""
        place, rows = self.place, max(self.place.sums.get("rows", 0.0), 1.0)
        began = time.monotonic()
        found = {"loss": place.loss_sum / rows, **self._learner.summed(place.sums)}
        found |= self._learner.validate(self._model)
        self._pace.validated(time.monotonic() - began)
        return {
            "epoch": place.epoch,
            **{name: float(value) if math.isfinite(value) else None for name, value in found.items()},
            "seconds": round(place.seconds, 3),
            "rows_per_second": round(rows / max(place.seconds, 1e-9), 1),
        }

    def _compare(self, measured: Metrics) -> None:
        """Keeps the weights, if this epoch is the best so far."""
        place, monitor = self.place, self._learner.monitor
        best = place.history[place.best_epoch - 1][monitor.name] if place.best_epoch else None
        value = measured[monitor.name]
        if place.best_epoch and (value is None or (best is not None and not monitor.better(value, best))):
            return
        place.best_epoch = place.epoch
        self._best = checkpoints.taken(self._model.variables)

    def _take_best(self) -> None:
        if self.place.best_epoch != len(self.place.history):
            self._report.log(f"The weights of epoch {self.place.best_epoch} are kept, the best of all.")
            checkpoints.given(self._best, self._model.variables)

    def _left(self, steps: int) -> tuple[int, int]:
        """How many steps and how many validations there are to come, at most."""
        epochs = self._epochs - self.place.epoch
        return epochs * steps + steps - self.place.steps, epochs + 1

    def _checkpoint(self) -> Checkpoint:
        model = checkpoints.taken(self._model.variables)
        is_best = self.place.best_epoch == len(self.place.history) and not self.place.steps
        return Checkpoint(
            place=self.place,
            model=model,
            optimizer=checkpoints.taken(self._optimizer.variables),
            best=[] if is_best else self._best,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        checkpoints.given(checkpoint.model, self._model.variables)
        checkpoints.given(checkpoint.optimizer, self._optimizer.variables)
        self.place = checkpoint.place
        self._best = checkpoint.best or (checkpoint.model if self.place.best_epoch else [])
        self._report.log(f"Taken up from a checkpoint: epoch {self.place.epoch}, {self.place.steps} steps of it done.")
