"""Rows of a table into one of its columns, a class or a quantity: the recipe `tabular`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.recipes import labelled, rows
from modelhub.recipes.base import Manifest, Parameter
from modelhub.recipes.learning import Example, Learner, PathOf, Tensors
from modelhub.recipes.schedule import training_parameters
from modelhub.recipes.tabular import columns
from tenants.errors import FieldError, Invalid

if TYPE_CHECKING:
    from modelhub.datasets.manifests import Manifest as Content
    from modelhub.trainer.task import Item, Task

SETTINGS_FILE = "settings.json"
ONNX_FILE = "model.onnx"
# Rows are grouped by their categories; what is longer is a text.
LONGEST_SLICE = 40
CLASSIFICATION, REGRESSION, AUTO = "classification", "regression", "auto"

PARAMETERS = (
    Parameter("target", "text", "The column that is to be told from the others.", default=None, minimum=1, maximum=200),
    Parameter(
        "task",
        "choice",
        "Whether the target is one of some classes or a quantity; auto takes numbers for quantities, but for integers "
        "of at most ten values.",
        default=AUTO,
        choices=(AUTO, CLASSIFICATION, REGRESSION),
    ),
    Parameter("hidden_layers", "integer", "How many layers there are before the answer.", 2, minimum=0, maximum=8),
    Parameter("hidden_units", "integer", "How many values each of them has.", 128, minimum=1, maximum=4096),
    Parameter("embedding", "integer", "How many values stand for a category.", 8, minimum=1, maximum=256),
    Parameter("dropout", "number", "The share of values left out in training.", 0.2, minimum=0.0, maximum=0.9),
    *training_parameters(
        classifier=True,
        epochs=100,
        batch_size=64,
        learning_rate=0.002,
        schedule="cosine",
        weight_decay=0.001,
        clip_norm=1.0,
        early_stopping=25,
    ),
)


class Tabular:
    """Tells a column of a table from the others."""

    name = "tabular"
    title = "Rows of a table into a class or a quantity"
    dataset_kind = "table"
    parameters: tuple[Parameter, ...] = PARAMETERS

    def check(self, content: "Content", parameters: Mapping[str, Any]) -> None:
        """Raises Invalid unless the target is a column of a type that fits the task, and not the only one."""
        types = {column.name: column.type for column in content.columns}
        target = parameters["target"]
        if target not in types:
            got = "no target" if target is None else f"the target {target!r}"
            shown = ", ".join(list(types)[:20]) + ("…" if len(types) > 20 else "")
            raise _refused(f"Got {got}; expected one of the data set's columns: {shown}.")
        if types[target] == "text":
            raise _refused(f"The column {target} is free text, which this recipe does not answer with.")
        if parameters["task"] == REGRESSION and types[target] not in ("number", "integer"):
            raise _refused(f"The column {target} is of the type {types[target]}; a regression needs numbers.")
        if not any(kind != "text" for name, kind in types.items() if name != target):
            raise _refused(f"There is no column but {target} to tell it from that is not free text.")
        if parameters["task"] == REGRESSION and parameters["class_weights"] != "none":
            message = f"Got {parameters['class_weights']!r} for a regression, which has no classes; expected none."
            raise Invalid(message, errors=(FieldError("parameters.class_weights", message),))

    def learner(self, task: "Task") -> Learner:
        from modelhub.recipes.tabular.learner import TabularLearner

        return TabularLearner(task)

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> "TablePipeline":
        return TablePipeline(manifest, path_of)

    def examples(self, items: Iterable["Item"]) -> Iterator[Example]:
        """The rows with every column as an input; the truth is among them, and `assess` is told which it is."""
        for row in rows.read(items):
            values = row["values"]
            slices = {
                name: columns.category(value)
                for name, value in values.items()
                if isinstance(value, str | bool) and len(columns.category(value)) <= LONGEST_SLICE
            }
            group = {"group": row["group"]} if row.get("group") else {}
            inputs = {name: _input(value) for name, value in values.items()}
            yield Example(inputs=inputs, truth=values, name=row["name"], slices=slices | group)

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]:
        """The metrics of the rows whose target has a value; `truths` are the values of the target, or whole rows."""
        target = manifest["preprocessing"]["target"]
        values = [truth.get(target) if isinstance(truth, Mapping) else truth for truth in truths]
        kept = [place for place, value in enumerate(values) if value not in (None, "")]
        if manifest["decision"]["kind"] == "value":
            told = np.asarray(outputs["value"]).reshape(-1)[kept]
            return evaluation.regression(told, columns.single([columns.number(values[place]) for place in kept]))
        labels = [columns.category(values[place]) for place in kept]
        return labelled.assessed(outputs["scores"][kept], labels, labels=manifest["labels"])


def _input(value: Any) -> float | str | None:
    """A value as an example has it: booleans are numbers to this recipe."""
    return value if value is None or isinstance(value, str) else float(value)


def _refused(message: str) -> Invalid:
    return Invalid(message, errors=(FieldError("parameters.target", message),))


class TablePipeline:
    """A value for each column in, NaN or an empty text where there is none; out comes a label or a value."""

    content_types: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest, path_of: PathOf) -> None:
        settings = json.loads(path_of(SETTINGS_FILE).read_text(encoding="utf-8"))
        self._layout = columns.from_json(settings["layout"])
        self._encoder = columns.Encoder(self._layout)
        self._labels: list[str] = list(manifest["labels"])

    def buckets(self, inputs: Tensors) -> int:
        return 0

    def encode(self, inputs: Tensors) -> Tensors:
        """The columns, each (rows,), as `numbers` and `categories`, each (rows, columns). Raises Invalid."""
        return self._encoder.encode(inputs)

    def decode(self, outputs: Tensors) -> Tensors:
        """`scores` (rows, classes) as those, `label` and `score`; or `value` (rows, 1) as (rows,)."""
        if "value" in outputs:
            return {"value": outputs["value"].reshape(-1)}
        return labelled.decoded(outputs["scores"], self._labels)

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        if "value" in outputs:
            return {"value": float(outputs["value"].item())}
        return labelled.answered(outputs, self._labels)

    def sample(self, rows: int) -> dict[str, NDArray[Any]]:
        """Rows of the columns' usual values."""
        found: dict[str, NDArray[Any]] = {
            column.name: np.full(rows, column.example, np.float32) for column in self._layout.numbers
        }
        for column in self._layout.categories:
            found[column.name] = np.full(rows, column.values[0].encode(), object)
        return found
