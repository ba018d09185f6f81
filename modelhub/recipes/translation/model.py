"""The translator's Transformer in Keras, as it learns: pre-norm, sinusoidal places, one embedding for all three uses.

Vaswani et al. 2017 (arXiv:1706.03762); normalisation before each part as in Xiong et al. 2020 (arXiv:2002.04745);
embeddings shared with the output as in Press and Wolf 2017 (arXiv:1608.05859).
"""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub.recipes.translation.export import EPSILON, Sizes, positions
from modelhub.seq2seq import IMPOSSIBLE

PAD = 0


class Linear(keras.layers.Layer):  # type: ignore[misc]
    """A product and a bias."""

    def __init__(self, inputs: int, outputs: int, **named: Any) -> None:
        super().__init__(**named)
        self.outputs = outputs
        self.kernel = self.add_weight(shape=(inputs, outputs), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(outputs,), initializer="zeros", name="bias")
        self.built = True

    def applied(self, states: Any, how: "Pass") -> Any:
        """float32 (n, inputs) to (n, outputs)."""
        return tf.nn.bias_add(how.product(states, self.kernel.value), self.bias.value)


class Norm(keras.layers.Layer):  # type: ignore[misc]
    """Layer normalisation over the last dimension."""

    def __init__(self, width: int, **named: Any) -> None:
        super().__init__(**named)
        self.gamma = self.add_weight(shape=(width,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(width,), initializer="zeros", name="beta")
        self.built = True

    def normed(self, states: Any) -> Any:
        mean = tf.reduce_mean(states, -1, keepdims=True)
        centred = states - mean
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        return centred * tf.math.rsqrt(variance + EPSILON) * self.gamma.value + self.beta.value


class Pass:
    """How a pass through the model is done: exactly, or, while it learns, with dropout and in coarse products.

    Dropout's masks are a function of the batch's seed, int32 (2,); without a seed nothing is left out. Where the
    processor multiplies bfloat16 at several times its speed, products of a pass that learns are of such numbers.
    """

    def __init__(self, *, dropout: float = 0.0, seed: Any = None) -> None:
        self._dropped = round(dropout * 256)
        self._seed = seed
        self._uses = 0
        self._coarse = seed is not None and multiplies_bfloat16()

    def dropped(self, states: Any) -> Any:
        """Leaves out values of states (n, width), the width a multiple of 4; a byte of random bits decides on each."""
        if self._seed is None or not self._dropped:
            return states
        self._uses += 1
        rows, width = tf.shape(states)[0], states.shape[-1]
        seed = self._seed + tf.constant([0, self._uses])
        bits = tf.random.stateless_uniform((rows, width // 4), seed, minval=None, maxval=None, dtype=tf.int32)
        bytes_ = tf.reshape(tf.bitcast(bits, tf.uint8), (rows, width))
        kept = tf.cast(bytes_ >= tf.constant(self._dropped, tf.uint8), tf.float32)
        return states * (kept * (256 / (256 - self._dropped)))

    def product(self, states: Any, kernel: Any, *, transposed: bool = False) -> Any:
        """States (n, inputs) by a kernel (inputs, outputs), or its transpose, to float32 (n, outputs)."""
        if self._coarse:
            states, kernel = tf.cast(states, tf.bfloat16), tf.cast(kernel, tf.bfloat16)
        return tf.cast(tf.matmul(states, kernel, transpose_b=transposed), tf.float32)


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    try:
        return "_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


class SelfAttention(keras.layers.Layer):  # type: ignore[misc]
    """Each place looks at all of its own row that the mask leaves."""

    def __init__(self, sizes: Sizes, **named: Any) -> None:
        super().__init__(**named)
        self.sizes = sizes
        self.norm = Norm(sizes.width, name="norm")
        self.query_key_value = Linear(sizes.width, 3 * sizes.width, name="query_key_value")
        self.output_ = Linear(sizes.width, sizes.width, name="output")
        self.built = True

    def added(self, states: Any, mask: Any, shape: Any, how: Pass) -> Any:
        """States (rows × length, width), shape (rows, length)."""
        query, key, value = tf.split(self.query_key_value.applied(self.norm.normed(states), how), 3, axis=-1)
        looked = _attention(query, key, value, mask=mask, of=shape, at=shape, sizes=self.sizes)
        return states + how.dropped(self.output_.applied(looked, how))


class CrossAttention(keras.layers.Layer):  # type: ignore[misc]
    """Each place of the target looks at the source."""

    def __init__(self, sizes: Sizes, **named: Any) -> None:
        super().__init__(**named)
        self.sizes = sizes
        self.norm = Norm(sizes.width, name="norm")
        self.query = Linear(sizes.width, sizes.width, name="query")
        self.key_value = Linear(sizes.width, 2 * sizes.width, name="key_value")
        self.output_ = Linear(sizes.width, sizes.width, name="output")
        self.built = True

    def added(self, states: Any, source: Any, mask: Any, shapes: tuple[Any, Any], how: Pass) -> Any:
        """States (rows × target length, width), source (rows × source length, width); shapes of both."""
        key, value = tf.split(self.key_value.applied(source, how), 2, axis=-1)
        query = self.query.applied(self.norm.normed(states), how)
        looked = _attention(query, key, value, mask=mask, of=shapes[0], at=shapes[1], sizes=self.sizes)
        return states + how.dropped(self.output_.applied(looked, how))


class Inner(keras.layers.Layer):  # type: ignore[misc]
    """Two layers at each place by itself."""

    def __init__(self, sizes: Sizes, **named: Any) -> None:
        super().__init__(**named)
        self.norm = Norm(sizes.width, name="norm")
        self.hidden = Linear(sizes.width, sizes.hidden, name="hidden")
        self.output_ = Linear(sizes.hidden, sizes.width, name="output")
        self.built = True

    def added(self, states: Any, how: Pass) -> Any:
        inner = tf.nn.relu(self.hidden.applied(self.norm.normed(states), how))
        return states + how.dropped(self.output_.applied(inner, how))


class EncoderLayer(keras.layers.Layer):  # type: ignore[misc]
    """A layer that reads the source."""

    def __init__(self, sizes: Sizes, **named: Any) -> None:
        super().__init__(**named)
        self.self_attention = SelfAttention(sizes, name="self")
        self.inner = Inner(sizes, name="inner")
        self.built = True


class DecoderLayer(EncoderLayer):
    """A layer that writes the target, and looks at the source."""

    def __init__(self, sizes: Sizes, **named: Any) -> None:
        super().__init__(sizes, **named)
        self.cross_attention = CrossAttention(sizes, name="cross")


class Transformer(keras.Model):  # type: ignore[misc]
    """Source and target tokens to what the next target token may be.

    Source int32 (rows, length) and target int32 (rows, target length), which begins with the start, both padded by 0.
    """

    def __init__(self, sizes: Sizes, *, dropout: float = 0.0, **named: Any) -> None:
        super().__init__(**named)
        self.sizes = sizes
        self.dropout = dropout
        spread = keras.initializers.RandomNormal(stddev=sizes.width**-0.5)
        self.embedding = self.add_weight(shape=(sizes.vocabulary, sizes.width), initializer=spread, name="embedding")
        self.encoder = [EncoderLayer(sizes, name=f"encoder_{n}") for n in range(sizes.encoder_layers)]
        self.encoder_norm = Norm(sizes.width, name="encoder_norm")
        self.decoder = [DecoderLayer(sizes, name=f"decoder_{n}") for n in range(sizes.decoder_layers)]
        self.decoder_norm = Norm(sizes.width, name="decoder_norm")
        self._positions = positions(sizes.width)
        self.built = True

    def logits(self, source: Any, target: Any) -> Any:
        """Logits float32 (rows, target length, vocabulary) of the token after each of the target's."""
        states = self.states(source, target, Pass())
        logits = tf.matmul(states, self.embedding.value, transpose_b=True)
        return tf.reshape(logits, (*_shape(target), self.sizes.vocabulary))

    def states(self, source: Any, target: Any, how: Pass) -> Any:
        """Float32 (rows × target length, width): of which the product with the embedding are the logits."""
        of_source, of_target = _shape(source), _shape(target)
        mask = tf.cast(tf.equal(source, PAD), tf.float32)[:, None, None, :] * IMPOSSIBLE
        both = embedded(self.embedding.value, tf.concat([tf.reshape(source, (-1,)), tf.reshape(target, (-1,))], 0))
        scaled = both * np.float32(np.sqrt(self.sizes.width))
        encoded = how.dropped(self._placed(scaled[: of_source[0] * of_source[1]], of_source))
        for layer in self.encoder:
            encoded = layer.inner.added(layer.self_attention.added(encoded, mask, of_source, how), how)
        encoded = self.encoder_norm.normed(encoded)
        earlier = (1 - tf.linalg.band_part(tf.ones((of_target[1], of_target[1])), -1, 0)) * IMPOSSIBLE
        states = how.dropped(self._placed(scaled[of_source[0] * of_source[1] :], of_target))
        for layer in self.decoder:
            states = layer.self_attention.added(states, earlier, of_target, how)
            states = layer.cross_attention.added(states, encoded, mask, (of_target, of_source), how)
            states = layer.inner.added(states, how)
        return self.decoder_norm.normed(states)

    def _placed(self, states: Any, shape: Any) -> Any:
        """States (rows × length, width) with what tells their places apart."""
        width = self.sizes.width
        spread = tf.reshape(states, (*shape, width)) + tf.constant(self._positions)[: shape[1]]
        return tf.reshape(spread, (-1, width))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights by the names that `translation_export` knows."""
        found = {"embedding": self.embedding}
        for side, layers, norm in (
            ("encoder", self.encoder, self.encoder_norm),
            ("decoder", self.decoder, self.decoder_norm),
        ):
            found |= _weights(f"{side}.norm", norm)
            for number, layer in enumerate(layers):
                found |= _weights(f"{side}.{number}.self", layer.self_attention)
                found |= _weights(f"{side}.{number}.inner", layer.inner)
                if isinstance(layer, DecoderLayer):
                    found |= _weights(f"{side}.{number}.cross", layer.cross_attention)
        return {name: np.asarray(weight.value, np.float32) for name, weight in found.items()}


def loss(model: Transformer, source: Any, target: Any, *, seed: Any, smoothing: float) -> tuple[Any, Any, Any]:
    """Mean loss of a target token (float32 scalar), the sum of their cross-entropies in nats, and how many there are.

    The target begins with the start and ends with the end. Smoothing gives a share of the probability to all tokens
    alike (Szegedy et al. 2016, arXiv:1512.00567, section 7); what that adds is a product of states with the mean
    embedding, so that the logits are gone through only once.
    """
    how = Pass(dropout=model.dropout, seed=seed)
    states = model.states(source, target[:, :-1], how)
    truths = tf.reshape(target[:, 1:], (-1,))
    counted = tf.cast(tf.not_equal(truths, PAD), tf.float32)
    embedding = model.embedding.value
    logits = how.product(states, embedding, transposed=True)
    # By its name: what `tf.nn` has for it goes through the logits several times where operations are deterministic.
    entropies = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=truths).loss
    tokens = tf.reduce_sum(counted)
    total = tf.reduce_sum(entropies * counted)
    if not smoothing:
        return total / tokens, total, tokens
    apart = embedded(embedding, truths) - tf.reduce_mean(embedding, 0)
    smoothed = tf.reduce_sum(tf.reduce_sum(states * apart, -1) * counted)
    return (total + smoothing * smoothed) / tokens, total, tokens


def measured(model: Transformer, source: Any, target: Any) -> tuple[Any, Any, Any]:
    """The sum of the target tokens' cross-entropies in nats, how many are the likeliest, and how many there are."""
    logits = model.logits(source, target[:, :-1])
    truths = target[:, 1:]
    counted = tf.cast(tf.not_equal(truths, PAD), tf.float32)
    entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(truths, logits)
    right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), truths), tf.float32)
    return tf.reduce_sum(entropies * counted), tf.reduce_sum(right * counted), tf.reduce_sum(counted)


def embedded(embedding: Any, ids: Any) -> Any:
    """The rows of the embedding for ids (n,); its gradient is dense, as that of the output's product is."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def look_up(table: Any) -> Any:
        size = table.shape[0]
        return tf.gather(table, ids), lambda gradient: tf.math.unsorted_segment_sum(gradient, ids, size)

    return look_up(embedding)


def _attention(query: Any, key: Any, value: Any, *, mask: Any, of: Any, at: Any, sizes: Sizes) -> Any:
    """Query (rows × n, width) by key and value (rows × m, width) to (rows × n, width).

    `of` is (rows, n), `at` (rows, m); the mask, 0 or -1e9, goes with (rows, heads, n, m).
    """
    query = tf.transpose(tf.reshape(query, (*of, sizes.heads, sizes.head_width)), (0, 2, 1, 3))
    key, value = (
        tf.transpose(tf.reshape(one, (*at, sizes.heads, sizes.head_width)), (0, 2, 1, 3)) for one in (key, value)
    )
    scores = tf.matmul(query, key, transpose_b=True) * np.float32(sizes.head_width**-0.5) + mask
    looked = tf.matmul(tf.nn.softmax(scores), value)
    return tf.reshape(tf.transpose(looked, (0, 2, 1, 3)), (-1, sizes.width))


def _shape(tokens: Any) -> tuple[Any, Any]:
    """Rows and length, as numbers where they are known."""
    dynamic = tf.shape(tokens)
    return tuple(dynamic[n] if size is None else size for n, size in enumerate(tokens.shape))


def _weights(prefix: str, layer: Any) -> dict[str, Any]:
    """The weights of a layer by its prefix and their paths in it."""
    found = {}
    for name in ("gamma", "beta", "kernel", "bias"):
        if hasattr(layer, name):
            found[f"{prefix}.{name}"] = getattr(layer, name)
    for name in ("norm", "query_key_value", "query", "key_value", "hidden", "output_"):
        if isinstance(part := getattr(layer, name, None), keras.layers.Layer):
            found |= _weights(f"{prefix}.{name.rstrip('_')}", part)
    return found
