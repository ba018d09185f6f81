"""A convolution, its pooling and the dense layer behind them strip by strip, which is how LiteRT's files compute them.

Layer by layer, all that a convolution makes of a batch is written to memory and read again: 2.8 MB a picture for the
seed CNN, four times what is left after pooling. A strip of a few rows goes through all three layers while it is in the
processor's cache, and the dense layer's sum is that of the strips. See docs/decisions/0026.
"""

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

# What the convolution makes of a row's strip. Smaller ones would be a little quicker for batches, and slower for one
# row on several threads, which wait for one another at the end of each operation.
STRIP_BYTES = 512 * 1024
# Each strip has operations of its own, which cost a few microseconds each, whatever their size.
MOST_STRIPS = 64
FLOAT_BYTES = 4


def forward(model: Any) -> Callable[[Any], Any]:
    """What a Keras model answers, as a function of its input, for a converter to trace.

    float32 (rows, ...) to float32 (rows, ...), the model's own up to the order in which the dense layer adds up. In
    strips where a Sequential model has a Conv2D, a MaxPooling2D, a Flatten and a Dense one after another, neither
    padded nor overlapping, and more than one strip; any other model as it is.
    """
    layers = model.layers if isinstance(model, keras.Sequential) else []
    found = next((start for start in range(len(layers)) if bounds(layers[start : start + 4])), None)
    if found is None:
        return lambda values: model(values, training=False)
    before, in_strips, after = layers[:found], layers[found : found + 4], layers[found + 4 :]

    def apply(values: Any) -> Any:
        for layer in before:
            values = layer(values)
        values = _dense_of_strips(values, in_strips)
        for layer in after:
            values = layer(values)
        return values

    return apply


def bounds(layers: list[Any]) -> list[tuple[int, int]]:
    """The first and last row (left out) of each strip, in rows after pooling; none where layers are not for strips."""
    if [type(layer) for layer in layers] != [
        keras.layers.Conv2D,
        keras.layers.MaxPooling2D,
        keras.layers.Flatten,
        keras.layers.Dense,
    ]:
        return []
    convolution, pooling, _, _ = layers
    plain = (
        convolution.strides == convolution.dilation_rate == (1, 1)
        and pooling.strides == pooling.pool_size
        and convolution.padding == pooling.padding == "valid"
        and convolution.data_format == pooling.data_format == "channels_last"
        and all(layer.compute_dtype == "float32" for layer in layers)
    )
    if not plain:
        return []
    _, _, width, channels = convolution.output.shape
    _, height, _, _ = pooling.output.shape
    row_bytes = pooling.pool_size[0] * width * channels * FLOAT_BYTES
    count = min(-(-height // max(1, STRIP_BYTES // row_bytes)), MOST_STRIPS)
    cuts = [height * number // count for number in range(count + 1)]
    return list(pairwise(cuts)) if count > 1 else []


def _dense_of_strips(values: Any, layers: list[Any]) -> Any:
    """float32 (rows, height, width, channels) to float32 (rows, units)."""
    convolution, pooling, _, dense = layers
    pool, more = pooling.pool_size[0], convolution.kernel_size[0] - 1
    _, _, width, channels = pooling.output.shape
    sums = []
    for first, last in bounds(layers):
        strip = pooling(convolution(values[:, pool * first : pool * last + more]))
        flat = tf.reshape(strip, (-1, (last - first) * width * channels))
        weights = dense.kernel[first * width * channels : last * width * channels]
        sums.append(tf.matmul(flat, weights))
    total = reduce(tf.add, sums)  # LiteRT's sum of many is not one of XNNPACK's
    if dense.use_bias:
        total = tf.nn.bias_add(total, dense.bias)
    return dense.activation(total)
