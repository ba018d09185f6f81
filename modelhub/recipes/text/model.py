"""The model of a text classifier, and the same model as ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from modelhub.recipes.onnx_graph import FLOAT, INT32, Graph

WIDTHS = (2, 3, 4)
# Where a padded place must not be the largest.
LOWEST = -1e4


def build(parameters: Mapping[str, Any], *, tokens: int, classes: int) -> Any:
    """The untrained model of a vocabulary of so many tokens.

    Takes `tokens` int32 (rows, length), 0 being padding, and, unless the parameter `features` is 0, `features` int32
    (rows, number of features); gives float32 (rows, classes), each row adding up to 1. Padding does not change it.
    """
    dropout, wide = parameters["dropout"], parameters["embedding"]
    given = keras.layers.Input((None,), dtype="int32", name="tokens")
    there = keras.ops.expand_dims(keras.ops.cast(keras.ops.not_equal(given, 0), "float32"), -1)
    values = keras.layers.Embedding(tokens, wide, name="token_embedding")(given)
    values = keras.layers.SpatialDropout1D(dropout / 2)(values) * there
    read = _convolved if parameters["architecture"] == "cnn" else _recurrent
    found = read(values, there, parameters["units"])
    inputs = [given]
    if parameters["features"]:
        inputs.append(keras.layers.Input((None,), dtype="int32", name="features"))
        found.append(_bag(inputs[-1], parameters["features"], wide))
    joined = keras.layers.Dropout(dropout)(keras.ops.concatenate(found, axis=-1))
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="classes")(joined))


def _convolved(values: Any, there: Any, units: int) -> list[Any]:
    """For each width the strongest answer of each filter (Kim, Convolutional Neural Networks for Sentences, 2014)."""
    found = []
    for width in WIDTHS:
        layer = keras.layers.Conv1D(units, width, padding="same", activation="relu", name=f"convolution_{width}")
        # Answers are 0 or more: 0 at padded places is never above them.
        found.append(keras.ops.max(layer(values) * there, axis=1))
    return found


def _recurrent(values: Any, there: Any, units: int) -> list[Any]:
    """A GRU in both directions: the largest and the mean of each of its values over the text."""
    layer = keras.layers.Bidirectional(keras.layers.GRU(units, return_sequences=True), name="recurrent")
    states = layer(values, mask=keras.ops.squeeze(keras.ops.greater(there, 0), -1))
    largest = keras.ops.max(states * there + (1 - there) * LOWEST, axis=1)
    return [largest, keras.ops.sum(states * there, axis=1) / keras.ops.sum(there, axis=1)]


def _bag(features: Any, size: int, wide: int) -> Any:
    """The features' embeddings added up, and divided by the root of their number."""
    there = keras.ops.expand_dims(keras.ops.cast(keras.ops.not_equal(features, 0), "float32"), -1)
    values = keras.layers.Embedding(size, wide, name="feature_embedding")(features) * there
    number = keras.ops.maximum(keras.ops.sum(there, axis=1), 1.0)
    return keras.ops.sum(values, axis=1) / keras.ops.sqrt(number)


def write_onnx(model: Any, path: Path) -> None:
    """Writes the model as ONNX: the same inputs, of any length, and the output `scores`."""
    graph = Graph()
    classes = model.get_layer("classes")
    tokens = graph.input("tokens", "int32", ("rows", "length"))
    there = _there(graph, tokens)
    values = graph.node("Gather", graph.constant(model.get_layer("token_embedding").embeddings), tokens)
    values = graph.node("Mul", values, there)
    names = {layer.name for layer in model.layers}
    read = _recurrent_nodes if "recurrent" in names else _convolution_nodes
    found = read(graph, model, values, there)
    if "feature_embedding" in names:
        features = graph.input("features", "int32", ("rows", "features"))
        found.append(_bag_nodes(graph, model.get_layer("feature_embedding"), features))
    joined = graph.node("Concat", *found, axis=-1)
    scores = graph.node("Softmax", graph.dense(joined, classes), axis=-1)
    graph.output("scores", scores, "float32", ("rows", classes.units))
    graph.save(path)


def _there(graph: Graph, numbers: str) -> str:
    """1 where there is something and 0 at padding: (rows, length, 1)."""
    something = graph.node("Greater", numbers, graph.constant(0, np.int32))
    return graph.node("Unsqueeze", graph.node("Cast", something, to=FLOAT), graph.constant([2], np.int64))


def _convolution_nodes(graph: Graph, model: Any, values: str, there: str) -> list[str]:
    turned, mask = graph.node("Transpose", values, perm=[0, 2, 1]), graph.node("Transpose", there, perm=[0, 2, 1])
    found = []
    for width in WIDTHS:
        layer = model.get_layer(f"convolution_{width}")
        kernel = graph.constant(np.transpose(np.asarray(layer.kernel), (2, 1, 0)))
        pads = [(width - 1) // 2, width // 2]
        answers = graph.node("Conv", turned, kernel, graph.constant(layer.bias), kernel_shape=[width], pads=pads)
        answers = graph.node("Mul", graph.node("Relu", answers), mask)
        found.append(graph.node("ReduceMax", answers, axes=[2], keepdims=0))
    return found


def _recurrent_nodes(graph: Graph, model: Any, values: str, there: str) -> list[str]:
    lengths = graph.node("ReduceSum", there, graph.constant([1, 2], np.int64), keepdims=0)
    along = graph.node("Transpose", values, perm=[1, 0, 2])
    states = graph.bidirectional(along, model.get_layer("recurrent"), graph.node("Cast", lengths, to=INT32))
    # (length, directions, rows, units) to (rows, length, directions × units).
    states = graph.node("Transpose", states, perm=[2, 0, 1, 3])
    states = graph.node("Reshape", states, graph.constant([0, 0, -1], np.int64))
    present = graph.node("Mul", states, there)
    low = graph.node("Mul", graph.node("Sub", graph.constant(1.0), there), graph.constant(LOWEST))
    largest = graph.node("ReduceMax", graph.node("Add", present, low), axes=[1], keepdims=0)
    total = graph.node("ReduceSum", present, graph.constant([1], np.int64), keepdims=0)
    number = graph.node("ReduceSum", there, graph.constant([1], np.int64), keepdims=0)
    return [largest, graph.node("Div", total, number)]


def _bag_nodes(graph: Graph, layer: Any, features: str) -> str:
    there = _there(graph, features)
    values = graph.node("Mul", graph.node("Gather", graph.constant(layer.embeddings), features), there)
    along = graph.constant([1], np.int64)
    number = graph.node("Max", graph.node("ReduceSum", there, along, keepdims=0), graph.constant(1.0))
    return graph.node("Div", graph.node("ReduceSum", values, along, keepdims=0), graph.node("Sqrt", number))
