"""The model of a table: encodings, normalisation and a multi-layer perceptron; and the same model as ONNX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from modelhub.recipes.onnx_graph import FLOAT, Graph
from modelhub.recipes.tabular.columns import Layout

# Values that lie further out than so many standard deviations are taken for that many.
FARTHEST = 8.0


def build(
    parameters: Mapping[str, Any], layout: Layout, *, classes: int, spread: float = 1.0, mean: float = 0.0
) -> Any:
    """The untrained model of a table of this layout.

    Takes `numbers` float32 (rows, columns), NaN being missing, and `categories` int32 (rows, columns); one without
    columns is left out. Gives float32 (rows, classes) that add up to 1; or for no classes the value, float32
    (rows, 1), which begins near the `mean` and is `spread` wide.
    """
    inputs, found = [], []
    if layout.numbers:
        inputs.append(keras.layers.Input((len(layout.numbers),), name="numbers"))
        found += _standardised(inputs[-1], layout)
    if layout.categories:
        inputs.append(keras.layers.Input((len(layout.categories),), dtype="int32", name="categories"))
        embedding = keras.layers.Embedding(layout.category_numbers, parameters["embedding"], name="embedding")
        found.append(keras.layers.Flatten()(embedding(inputs[-1])))
    values = keras.ops.concatenate(found, axis=-1) if len(found) > 1 else found[0]
    for number in range(parameters["hidden_layers"]):
        layer = keras.layers.Dense(
            parameters["hidden_units"], activation="relu", kernel_initializer="he_normal", name=f"hidden_{number}"
        )
        values = keras.layers.Dropout(parameters["dropout"])(layer(values))
    if classes:
        return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="answer")(values))
    value = keras.layers.Dense(1, name="answer", kernel_initializer="zeros")(values)
    return keras.Model(inputs, keras.layers.Rescaling(spread, offset=mean, name="unit")(value))


def _standardised(numbers: Any, layout: Layout) -> list[Any]:
    """The numbers with a mean of 0 and a standard deviation of 1, 0 where they are missing; and where they are."""
    missing = keras.ops.isnan(numbers)
    filled = keras.ops.where(missing, 0.0, numbers)
    logged = np.array([[column.logged for column in layout.numbers]], bool)
    logarithms = keras.ops.sign(filled) * keras.ops.log(1.0 + keras.ops.abs(filled))
    chosen = keras.ops.where(logged, logarithms, filled)
    values = keras.ops.clip((chosen - _means(layout)) / _spreads(layout), -FARTHEST, FARTHEST)
    return [keras.ops.where(missing, 0.0, values), keras.ops.cast(missing, "float32")]


def _means(layout: Layout) -> NDArray[np.float32]:
    return np.array([column.mean for column in layout.numbers], np.float32)


def _spreads(layout: Layout) -> NDArray[np.float32]:
    return np.array([column.spread for column in layout.numbers], np.float32)


def write_onnx(model: Any, layout: Layout, path: Path, *, output: str, classes: int) -> None:
    """Writes the model as ONNX: the same inputs, and an output of this name."""
    graph = Graph()
    found = []
    if layout.numbers:
        found += _standardised_nodes(graph, layout)
    if layout.categories:
        ids = graph.input("categories", "int32", ("rows", len(layout.categories)))
        rows = graph.node("Gather", graph.constant(model.get_layer("embedding").embeddings), ids)
        found.append(graph.node("Flatten", rows, axis=1))
    values = graph.node("Concat", *found, axis=-1)
    for layer in _hidden(model):
        values = graph.node("Relu", graph.dense(values, layer))
    values = graph.dense(values, model.get_layer("answer"))
    if classes:
        graph.output(output, graph.node("Softmax", values, axis=-1), "float32", ("rows", classes))
    else:
        unit = model.get_layer("unit")
        values = graph.node("Mul", values, graph.constant(unit.scale))
        graph.output(output, graph.node("Add", values, graph.constant(unit.offset)), "float32", ("rows", 1))
    graph.save(path)


def _hidden(model: Any) -> Sequence[Any]:
    return [layer for layer in model.layers if layer.name.startswith("hidden_")]


def _standardised_nodes(graph: Graph, layout: Layout) -> list[str]:
    numbers = graph.input("numbers", "float32", ("rows", len(layout.numbers)))
    zero = graph.constant(0.0)
    missing = graph.node("IsNaN", numbers)
    filled = graph.node("Where", missing, zero, numbers)
    size = graph.node("Log", graph.node("Add", graph.node("Abs", filled), graph.constant(1.0)))
    logarithms = graph.node("Mul", graph.node("Sign", filled), size)
    logged = graph.constant([[column.logged for column in layout.numbers]], np.bool_)
    values = graph.node("Where", logged, logarithms, filled)
    values = graph.node("Sub", values, graph.constant(_means(layout)))
    values = graph.node("Div", values, graph.constant(_spreads(layout)))
    values = graph.node("Clip", values, graph.constant(-FARTHEST), graph.constant(FARTHEST))
    return [graph.node("Where", missing, zero, values), graph.node("Cast", missing, to=FLOAT)]
