"""A table's recipe at work in the training process."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub import evaluation, runners
from modelhub.recipes import agreement, labelled, order, rows
from modelhub.recipes.base import Interface
from modelhub.recipes.learning import Batch, Exported, Monitor
from modelhub.recipes.schedule import class_weights
from modelhub.recipes.tabular import columns, table_rows, targets
from modelhub.recipes.tabular import model as tabular_model
from modelhub.recipes.tabular.columns import MISSING, UNKNOWN, Layout
from modelhub.recipes.tabular.recipe import ONNX_FILE, SETTINGS_FILE
from modelhub.recipes.tabular.table_rows import Split
from modelhub.recipes.tabular.targets import Target
from modelhub.signatures import DYNAMIC, Signature, TensorSpec
from modelhub.trainer.task import Failure, Item, Reporter, Task

VALIDATION_BATCH = 1024
# How much of a table is looked at to find out what its columns hold.
SURVEYED_VALUES = 20_000_000
# The share of values that training takes for missing or unknown, so that it knows what to make of one that is.
VALUE_DROPOUT = 0.02
# Told apart from the seed of the order.
DROPPED = 1


class TabularLearner:
    """Learns to tell the target from the other columns."""

    monitor = Monitor("val_loss", higher_is_better=False)
    steps_per_epoch: int

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parameters = task.parameters
        self._target: Target
        self._layout: Layout

    # What is read

    def read(self, *, folder: Path, report: Reporter) -> None:
        self._target, self._layout = self._learned(report)
        if not self._layout.inputs:
            raise Failure(f"No column is left to tell {self._target.name} from; the log says why each was left out.")
        self._train, self._validation = (
            table_rows.split(
                self._rows(name),
                name=name,
                total=self._task.rows(name),
                layout=self._layout,
                target=self._target,
                folder=folder,
                report=report,
            )
            for name in ("train", "validation")
        )
        if not len(self._validation):
            raise Failure("The validation split has no row that can be used. The log names those left out.")
        parameters, count = self._parameters, len(self._train)
        self.steps_per_epoch = order.steps_of(
            count, batch_size=parameters["batch_size"], steps_per_epoch=parameters["steps_per_epoch"]
        )
        self._weights = class_weights(
            self._train.targets.astype(np.int64) if self._labels else np.zeros(count, np.int64),
            classes=len(self._labels) or 1,
            how=parameters["class_weights"],
        )

    @property
    def _labels(self) -> tuple[str, ...]:
        return self._target.labels

    def _learned(self, report: Reporter) -> tuple[Target, Layout]:
        """What the training rows hold, or what the version to begin with knew of its own."""
        name = self._parameters["target"]
        if SETTINGS_FILE in self._task.warm_files:
            return self._of_version(json.loads(Path(self._task.warm_files[SETTINGS_FILE]).read_text(encoding="utf-8")))
        types = {column.name: column.type for column in self._task.columns}
        survey = columns.Survey({other: kind for other, kind in types.items() if other != name})
        for row in islice(self._rows("train"), max(1, SURVEYED_VALUES // len(types))):
            survey.see(row["values"])
        values = [row["values"].get(name) for row in self._rows("train")]
        target = targets.learn(name, types[name], values, task=self._parameters["task"])
        report.log(
            f"The target {name} is "
            + (f"one of {len(target.labels)} classes." if target.labels else f"a quantity around {target.mean:.6g}.")
        )
        return target, survey.layout(report.log)

    def _of_version(self, settings: Mapping[str, Any]) -> tuple[Target, Layout]:
        """What a version's settings say; raises Failure where this training is about something else."""
        target = Target(**{**settings["target"], "labels": tuple(settings["target"]["labels"])})
        layout = columns.from_json(settings["layout"])
        if target.name != self._parameters["target"]:
            raise Failure(
                f"{self._task.warm_start} tells {target.name}; it is no beginning for telling "
                f"{self._parameters['target']}."
            )
        there = {column.name for column in self._task.columns}
        if missing := [spec.name for spec in layout.inputs if spec.name not in there]:
            raise Failure(
                f"{self._task.warm_start} learned from the columns {', '.join(missing)}, which are not there."
            )
        return target, layout

    def _rows(self, split: str) -> Iterator[rows.Row]:
        items: list[Item] = getattr(self._task, split)
        return rows.read(items)

    # What is learned

    def build(self) -> Any:
        return tabular_model.build(
            self._parameters,
            self._layout,
            classes=len(self._labels),
            mean=self._target.mean,
            spread=self._target.spread,
        )

    @property
    def batch_signature(self) -> tuple[Any, ...]:
        """The tensors of a batch, of any number of rows."""
        truths = tf.TensorSpec((None,), tf.int64 if self._labels else tf.float32)
        return (*self._specs(), truths, tf.TensorSpec((None,), tf.float32))

    def _specs(self) -> list[Any]:
        return [tf.TensorSpec((None, t.shape[1]), t.dtype) for t in self._train.tensors.values()]

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Numbers, categories, truths, weights; a few values left out, anew for each batch."""
        parameters = self._parameters
        found = order.places(
            len(self._train),
            batch_size=parameters["batch_size"],
            steps=self.steps_per_epoch,
            seed=parameters["seed"],
            epoch=epoch,
            skip=skip,
        )
        for number, places in enumerate(found, skip):
            tensors = self._train.rows(places)
            self._leave_out(tensors, np.random.default_rng((parameters["seed"], DROPPED, epoch, number)))
            yield (*tensors.values(), *self._truths(places))

    def _truths(self, places: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        truths = self._train.targets[places]
        if self._labels:
            numbers = truths.astype(np.int64)
            return numbers, self._weights[numbers]
        return truths.astype(np.float32), np.ones(len(truths), np.float32)

    def _leave_out(self, tensors: dict[str, NDArray[Any]], draw: np.random.Generator) -> None:
        for name, values in tensors.items():
            chosen = draw.random(values.shape, np.float32) < VALUE_DROPOUT
            if name == "numbers":
                values[chosen] = np.nan
            else:
                begins = np.array([column.begin for column in self._layout.categories], np.int32)
                instead = begins + draw.choice([MISSING, UNKNOWN], values.shape).astype(np.int32)
                values[chosen] = instead[chosen]

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Mapping[str, Any]]:
        """Cross-entropy; of quantities the squared error in their standard deviations."""
        *inputs, truths, weights = batch
        answers = model(inputs, training=True)
        if self._labels:
            return labelled.loss_of(answers, truths, weights, smoothing=0.0)
        errors = (answers[:, 0] - truths) / self._target.spread
        sums = {"rows": tf.cast(tf.size(truths), tf.float32), "errors": tf.reduce_sum(tf.abs(errors))}
        return tf.reduce_mean(tf.square(errors)), sums

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        if self._labels:
            return {"accuracy": sums["right"] / sums["rows"]}
        return {"mae": sums["errors"] / sums["rows"] * self._target.spread}

    # How good it is

    def validate(self, model: Any) -> dict[str, float]:
        steps = self._parameters["validation_steps"]
        count = min(len(self._validation), steps * self._parameters["batch_size"] if steps else len(self._validation))
        answers, truths = self._answers(model, count), self._validation.targets[:count]
        if self._labels:
            return labelled.quick_metrics(answers, truths.astype(np.int64), self._labels)
        found = evaluation.regression(answers, truths)
        loss = float(np.mean(((answers[:, 0] - truths) / self._target.spread) ** 2))
        return {"val_loss": loss, "val_mae": found["mae"], "val_rmse": found["rmse"]}

    def evaluate(self, model: Any, *, report: Reporter) -> dict[str, Any]:
        report.progress("evaluating", 0, len(self._validation))
        answers, truths = self._answers(model, len(self._validation)), self._validation.targets
        if self._labels:
            return evaluation.classification(scores=answers, truths=truths.astype(np.int64), labels=self._labels)
        return evaluation.regression(answers, truths)

    def _answers(self, model: Any, count: int) -> NDArray[np.float32]:
        """The model's answers for the first rows of the validation split, in its order."""
        return _by_batches(
            self._validation, count, lambda tensors: np.asarray(model(list(tensors.values()), training=False))
        )

    # What is served

    def export(self, model: Any, *, folder: Path, report: Reporter) -> Exported:
        report.progress("converting", 0, 1)
        output, width = ("scores", len(self._labels)) if self._labels else ("value", 1)
        tabular_model.write_onnx(model, self._layout, folder / ONNX_FILE, output=output, classes=len(self._labels))
        settings = {"layout": self._layout.as_json(), "target": self._target.as_json()}
        (folder / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
        candidate = {"engine": "onnx", "file": ONNX_FILE}
        tensors = Signature(inputs=self._tensors(), outputs=(TensorSpec(output, "float32", (DYNAMIC, width)),))
        serving = {**candidate, "candidates": [candidate], "tensors": tensors.as_json(), "typical": {}}
        report.progress("checking", 0, len(self._validation))
        count, run = len(self._validation), runners.open({"serving": serving}, folder.joinpath)
        found = _by_batches(self._validation, count, lambda tensors: run(tensors)[output])
        spread = self._target.spread
        conversion = agreement.check(
            found=found / spread, expected=self._answers(model, count) / spread, file=ONNX_FILE
        )
        return Exported(
            files=[ONNX_FILE, SETTINGS_FILE],
            serving=serving,
            interface=self._interface(),
            conversion=conversion,
        )

    def _tensors(self) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, str(tensor.dtype), (DYNAMIC, tensor.shape[1]))
            for name, tensor in self._train.tensors.items()
        )

    def _interface(self) -> Interface:
        labels = list(self._labels)
        value = (TensorSpec("value", "float32", (DYNAMIC,)),)
        return Interface(
            signature=Signature(inputs=self._layout.inputs, outputs=labelled.outputs_of(labels) if labels else value),
            preprocessing={"kind": "table", "target": self._target.name, "columns": len(self._layout.inputs)},
            labels=labels,
            decision={"kind": "argmax" if labels else "value"},
        )


def _by_batches(split: Split, count: int, answer: Any) -> NDArray[np.float32]:
    found = [
        answer(split.rows(slice(at, min(at + VALIDATION_BATCH, count)))) for at in range(0, count, VALIDATION_BATCH)
    ]
    return np.concatenate(found).astype(np.float32)
