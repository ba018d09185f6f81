"""The architecture `seed-cnn`: one convolution, one pooling, two dense layers; 22.4 M parameters for two classes."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def build(*, classes: int = 2) -> Any:
    """The untrained model: float32 (rows, 150, 150, 3), 0 to 1, to probabilities.

    Two classes: float32 (rows, 1), the second one's, as the seed of this project has it, layer by layer. More: float32
    (rows, classes), which add up to 1.
    """
    answer = (
        keras.layers.Dense(1, activation="sigmoid")
        if classes == 2
        else keras.layers.Dense(classes, activation="softmax")
    )
    return keras.Sequential(
        [
            keras.layers.Input((150, 150, 3), name="image"),
            keras.layers.Conv2D(32, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            answer,
        ]
    )


def forward(model: Any) -> Callable[[Any], Any]:
    """The same function of the same weights, for training: pooled first, then bias and relu.

    Adding a constant and relu keep the order of their inputs, so they may follow the maximum, where they are done for a
    quarter of the values. Pooling's own gradient took the largest part of a step: `_pool` has one that does not search.
    """
    convolution, _, *rest = model.layers

    def apply(images: Any) -> Any:
        pooled = _pool(tf.nn.conv2d(images, convolution.kernel.value, strides=1, padding="VALID"))
        values = tf.nn.relu(tf.nn.bias_add(pooled, convolution.bias.value))
        for layer in rest:
            values = layer(values)
        return values

    return apply


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _pool(values: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Maximum over squares of 2 × 2; heights and widths must be even."""
    pooled = tf.nn.max_pool2d(values, 2, 2, "VALID")
    return pooled, lambda gradient: _pool_gradient(values, pooled, gradient)


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _pool_gradient(values: Any, pooled: Any, gradient: Any) -> Any:
    """The gradient goes to the first of each square's values that equals its maximum; one pass, fused by XLA."""
    _, height, width, channels = pooled.shape
    squares = tf.reshape(values, (-1, height, 2, width, 2, channels))
    first = tf.where(
        squares[:, :, 0, :, 0] == pooled,
        0,
        tf.where(squares[:, :, 0, :, 1] == pooled, 1, tf.where(squares[:, :, 1, :, 0] == pooled, 2, 3)),
    )
    place = tf.reshape(tf.range(4), (1, 1, 2, 1, 2, 1))
    spread = tf.where(first[:, :, None, :, None, :] == place, gradient[:, :, None, :, None, :], 0.0)
    return tf.reshape(spread, (-1, 2 * height, 2 * width, channels))
