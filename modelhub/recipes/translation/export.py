"""A translator's weights as two ONNX graphs, an encoder and one step of a decoder with its cache, in one bundle.

The graphs are built node by node: what a converter makes of the training model has neither the cache nor one product
for queries, keys and values. Rows, lengths and the width of the beam are free.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelhub.recipes.onnx_graph import INT64, Graph
from modelhub.seq2seq import DECODER, ENCODER, IMPOSSIBLE, SETTINGS, Settings

EPSILON = 1e-6
MAX_POSITIONS = 512

Weights = Mapping[str, NDArray[np.float32]]
# Name, dtype, and sizes with the names of those that are free.
Tensor = tuple[str, str, tuple[str | int, ...]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """A Transformer's sizes: of its vocabulary, its states (`width`), its inner layers (`hidden`), and its layers."""

    vocabulary: int
    width: int
    heads: int
    hidden: int
    encoder_layers: int
    decoder_layers: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def positions(width: int) -> NDArray[np.float32]:
    """What is added to the embedding at each place: float32 (MAX_POSITIONS, width).

    Sines in the first half of the width, cosines in the second, of wavelengths from 2π to 20000π (Vaswani et al. 2017,
    arXiv:1706.03762, section 3.5, there interleaved).
    """
    angles = np.arange(MAX_POSITIONS)[:, None] / 10000 ** (2 * np.arange(width // 2)[None] / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def write_bundle(path: Path, *, encoder: bytes, decoder: bytes, settings: Settings) -> None:
    """Writes the three parts into a zip without compression; the same parts, the same bytes."""
    parts = {ENCODER: encoder, DECODER: decoder, SETTINGS: json.dumps(settings.as_json(), indent=1).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, part in parts.items():
            bundle.writestr(zipfile.ZipInfo(name), part)


def encoder_graph(weights: Weights, sizes: Sizes) -> bytes:
    """The encoder, which looks at the source once, and all that the decoder will look at of it.

    In: `tokens` int32 (rows, length), `lengths` int32 (rows,). Out: `mask` float32 (rows, 1, 1, length), 0 or -1e9; for
    each layer n of the decoder `cross_key_n` (rows, heads, head width, length), `cross_value_n` (rows, heads, length,
    head width).
    """
    graph = _Graph(weights, sizes)
    rows_and_length = graph.node("Shape", "tokens")
    length = graph.node("Gather", rows_and_length, graph.integers(1), axis=0)
    places = graph.node("Range", graph.integers(0), length, graph.integers(1))
    valid = graph.node(
        "Less",
        places,
        graph.node("Unsqueeze", graph.node("Cast", "lengths", to=INT64), graph.integers([1])),
    )
    bias = graph.node("Where", valid, graph.constant(0.0), graph.constant(IMPOSSIBLE))
    graph.node("Unsqueeze", bias, graph.integers([1, 2]), result="mask")
    ends = graph.node("Unsqueeze", length, graph.integers([0]))
    place_values = graph.node("Slice", graph.positions, graph.integers([0]), ends, graph.integers([0]))
    embedded = graph.node("Add", graph.node("Gather", graph.embedding, "tokens", axis=0), place_values)
    state = graph.node("Reshape", embedded, graph.integers([-1, sizes.width]))
    shape = graph.node("Concat", rows_and_length, graph.integers([sizes.heads, sizes.head_width]), axis=0)
    for layer in range(sizes.encoder_layers):
        state = _encoder_layer(graph, f"encoder.{layer}", state, shape)
    state = graph.normed("encoder.norm", state)
    for layer in range(sizes.decoder_layers):
        pair = graph.linear(f"decoder.{layer}.cross.key_value", state)
        key, value = graph.nodes("Split", pair, graph.integers([sizes.width] * 2), results=2, axis=1)
        graph.node("Transpose", graph.node("Reshape", key, shape), perm=[0, 2, 3, 1], result=f"cross_key_{layer}")
        graph.node("Transpose", graph.node("Reshape", value, shape), perm=[0, 2, 1, 3], result=f"cross_value_{layer}")
    return graph.written(
        inputs=[("tokens", "int32", ("rows", "length")), ("lengths", "int32", ("rows",))], outputs=_sources(sizes)
    )


def decoder_graph(weights: Weights, sizes: Sizes, *, banned: Sequence[int]) -> bytes:
    """One step of the decoder: the hypotheses' last tokens in, the best continuations of each row out.

    In: `tokens` int32 (rows, beam), `parents` int32 (hypotheses,), `scores` float32 (rows, beam), `position` int64
    (1,), what the encoder gives, and for each layer n `past_key_n` and `past_value_n` float32 (earlier hypotheses,
    heads, steps, head width), of which hypothesis h continues place `parents[h]`. Out: `best` float32 and `places`
    int64 (rows, 2 × beam): the highest scores plus log-probabilities, and hypothesis × vocabulary + token; then `key_n`
    and `value_n` (hypotheses, heads, steps + 1, head width). The tokens `banned` are never among the best.
    """
    graph = _Graph(weights, sizes)
    beam = graph.node("Gather", graph.node("Shape", "tokens"), graph.integers([1]), axis=0)
    by_row = graph.node("Concat", graph.integers([-1]), beam, graph.integers([sizes.heads, sizes.head_width]), axis=0)
    flat = graph.node("Reshape", "tokens", graph.integers([-1]))
    state = graph.node(
        "Add",
        graph.node("Gather", graph.embedding, flat, axis=0),
        graph.node("Gather", graph.positions, "position", axis=0),
    )
    for layer in range(sizes.decoder_layers):
        state = _decoder_layer(graph, layer, state, by_row)
    logits = graph.node("MatMul", graph.normed("decoder.norm", state), graph.projection)
    allowed = np.zeros((1, sizes.vocabulary), np.float32)
    allowed[:, list(banned)] = IMPOSSIBLE
    likely = graph.node("Add", graph.node("LogSoftmax", logits, axis=-1), graph.constant(allowed))
    summed = graph.node("Add", likely, graph.node("Reshape", "scores", graph.integers([-1, 1])))
    across = graph.node(
        "Concat", graph.integers([-1]), graph.node("Mul", beam, graph.integers([sizes.vocabulary])), axis=0
    )
    count = graph.node("Mul", beam, graph.integers([2]))
    graph.nodes("TopK", graph.node("Reshape", summed, across), count, results=["best", "places"], axis=1)
    return graph.written(inputs=_decoder_inputs(sizes), outputs=_decoder_outputs(sizes))


def _encoder_layer(graph: "_Graph", name: str, state: str, shape: str) -> str:
    sizes = graph.sizes
    together = graph.linear(f"{name}.self.query_key_value", graph.normed(f"{name}.self.norm", state))
    parts = graph.nodes("Split", together, graph.integers([sizes.width] * 3), results=3, axis=1)
    query, key, value = (graph.node("Reshape", part, shape) for part in parts)
    looked = graph.attention(
        graph.node("Transpose", query, perm=[0, 2, 1, 3]),
        graph.node("Transpose", key, perm=[0, 2, 3, 1]),
        graph.node("Transpose", value, perm=[0, 2, 1, 3]),
        mask="mask",
    )
    state = graph.added(f"{name}.self.output", looked, to=state)
    return graph.feed_forward(f"{name}.inner", state)


def _decoder_layer(graph: "_Graph", layer: int, state: str, by_row: str) -> str:
    sizes, name = graph.sizes, f"decoder.{layer}"
    together = graph.linear(f"{name}.self.query_key_value", graph.normed(f"{name}.self.norm", state))
    parts = graph.nodes("Split", together, graph.integers([sizes.width] * 3), results=3, axis=1)
    one_step = graph.integers([-1, sizes.heads, 1, sizes.head_width])
    query, key, value = (graph.node("Reshape", part, one_step) for part in parts)
    key = graph.lengthened(f"past_key_{layer}", key, result=f"key_{layer}")
    value = graph.lengthened(f"past_value_{layer}", value, result=f"value_{layer}")
    looked = graph.attention(query, graph.node("Transpose", key, perm=[0, 1, 3, 2]), value)
    state = graph.added(f"{name}.self.output", looked, to=state)

    # The hypotheses of a row look at the one source together: nothing of it is repeated for each.
    query = graph.linear(f"{name}.cross.query", graph.normed(f"{name}.cross.norm", state))
    query = graph.node("Transpose", graph.node("Reshape", query, by_row), perm=[0, 2, 1, 3])
    looked = graph.attention(query, f"cross_key_{layer}", f"cross_value_{layer}", mask="mask")
    state = graph.added(f"{name}.cross.output", looked, to=state)
    return graph.feed_forward(f"{name}.inner", state)


def _sources(sizes: Sizes) -> list[Tensor]:
    found: list[Tensor] = [("mask", "float32", ("rows", 1, 1, "length"))]
    for layer in range(sizes.decoder_layers):
        found.append((f"cross_key_{layer}", "float32", ("rows", sizes.heads, sizes.head_width, "length")))
        found.append((f"cross_value_{layer}", "float32", ("rows", sizes.heads, "length", sizes.head_width)))
    return found


def _caches(sizes: Sizes, *, prefix: str, rows: str, steps: str) -> list[Tensor]:
    shape = (rows, sizes.heads, steps, sizes.head_width)
    return [
        (f"{prefix}{kind}_{layer}", "float32", shape)
        for layer in range(sizes.decoder_layers)
        for kind in ("key", "value")
    ]


def _decoder_inputs(sizes: Sizes) -> list[Tensor]:
    return [
        ("tokens", "int32", ("rows", "beam")),
        ("parents", "int32", ("hypotheses",)),
        ("scores", "float32", ("rows", "beam")),
        ("position", "int64", (1,)),
        *_sources(sizes),
        *_caches(sizes, prefix="past_", rows="earlier", steps="steps"),
    ]


def _decoder_outputs(sizes: Sizes) -> list[Tensor]:
    return [
        ("best", "float32", ("rows", "candidates")),
        ("places", "int64", ("rows", "candidates")),
        *_caches(sizes, prefix="", rows="hypotheses", steps="more"),
    ]


class _Graph(Graph):
    """A graph of a Transformer's parts, with the weights by their names."""

    def __init__(self, weights: Weights, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self._weights = weights
        embedding = weights["embedding"]
        self.embedding = self.constant(embedding * np.float32(np.sqrt(sizes.width)))
        self.positions = self.constant(positions(sizes.width))

    @property
    def projection(self) -> str:
        """The embedding again, as the matrix (width, vocabulary) that states are told apart by."""
        return self.constant(self._weights["embedding"].T)

    def integers(self, values: int | list[int]) -> str:
        return self.constant(values, np.int64)

    def normed(self, name: str, state: str) -> str:
        return self.norm(state, self._weights[f"{name}.gamma"], self._weights[f"{name}.beta"], epsilon=EPSILON)

    def linear(self, name: str, state: str) -> str:
        """State (n, inputs) times kernel (inputs, outputs) plus bias; the runtime makes one node of it."""
        product = self.node("MatMul", state, self.constant(self._weights[f"{name}.kernel"]))
        return self.node("Add", product, self.constant(self._weights[f"{name}.bias"]))

    def attention(self, query: str, key: str, value: str, mask: str | None = None) -> str:
        """Query (…, heads, n, head width) by key (…, head width, m) and value (…, m, head width) to (… × n, width)."""
        scale = self.constant(1 / np.sqrt(self.sizes.head_width))
        scores = self.node("Mul", self.node("MatMul", query, key), scale)
        if mask:
            scores = self.node("Add", scores, mask)
        looked = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        together = self.node("Transpose", looked, perm=[0, 2, 1, 3])
        return self.node("Reshape", together, self.integers([-1, self.sizes.width]))

    def added(self, name: str, change: str, *, to: str) -> str:
        return self.node("Add", self.linear(name, change), to)

    def feed_forward(self, name: str, state: str) -> str:
        inner = self.node("Relu", self.linear(f"{name}.hidden", self.normed(f"{name}.norm", state)))
        return self.added(f"{name}.output", inner, to=state)

    def lengthened(self, past: str, new: str, *, result: str) -> str:
        """The cache of each hypothesis's parent with the new step behind it."""
        return self.node("Concat", self.node("Gather", past, "parents", axis=0), new, axis=2, result=result)

    def written(self, *, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bytes:
        for name, dtype, shape in inputs:
            self.input(name, dtype, shape)
        for name, dtype, shape in outputs:
            self.output(name, name, dtype, shape)
        return self.as_bytes("translator")
