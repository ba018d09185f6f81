"""The architecture `convnet`: residual convolutions with batch norm, and the augmentation that it is trained with."""

from typing import Any

import keras
import tensorflow as tf

HEIGHT = WIDTH = 112
# Channels and whether the resolution halves, block by block: 56 × 56 after the stem, 4 × 4 at the end.
STEM = 32
BLOCKS = ((64, 2), (96, 2), (128, 2), (256, 2))
DROPOUT = 0.4
# An epoch of a small data set has few steps: the averages must follow within one.
MOMENTUM = 0.95

# Augmentation: most of what is drawn for one picture; shares of the picture's side, radians, factors.
SMALLEST_CROP, LARGEST_CROP = 0.65, 1.1
STRETCH = 0.1
SHIFT = 0.05
TURN = 0.2
CONTRAST = 0.25
SATURATION = 0.3
BRIGHTNESS = 0.1


def build(*, classes: int) -> Any:
    """The untrained model: float32 (rows, 112, 112, 3), 0 to 1, to probabilities.

    Two classes: float32 (rows, 1), the second label's. More: float32 (rows, classes), which add up to 1.
    Blocks as in He et al., Deep Residual Learning for Image Recognition, 2015; 1.4 M parameters, 109 M
    multiplications a picture. Full convolutions: on processors separable ones are slower in TensorFlow.
    """
    images = keras.layers.Input((HEIGHT, WIDTH, 3), name="image")
    values = keras.layers.Rescaling(4.0, offset=-2.0)(images)
    values = _normed(keras.layers.Conv2D(STEM, 5, strides=2, **CONVOLUTION)(values))
    values = keras.layers.ReLU()(values)
    for channels, strides in BLOCKS:
        values = _block(values, channels, strides)
    values = keras.layers.GlobalAveragePooling2D()(values)
    values = keras.layers.Dropout(DROPOUT)(values)
    if classes == 2:
        scores = keras.layers.Dense(1, activation="sigmoid")(values)
    else:
        scores = keras.layers.Dense(classes, activation="softmax")(values)
    return keras.Model(images, scores)


CONVOLUTION: dict[str, Any] = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}


def _block(values: Any, channels: int, strides: int) -> Any:
    """Two convolutions beside a shortcut, which is averaged and projected where the shape changes."""
    inner = _normed(keras.layers.Conv2D(channels, 3, strides=strides, **CONVOLUTION)(values))
    inner = keras.layers.Conv2D(channels, 3, **CONVOLUTION)(keras.layers.ReLU()(inner))
    inner = _normed(inner)
    if strides > 1:
        values = keras.layers.AveragePooling2D(strides, padding="same")(values)
    if strides > 1 or values.shape[-1] != channels:
        values = _normed(keras.layers.Conv2D(channels, 1, **CONVOLUTION)(values))
    return keras.layers.ReLU()(keras.layers.Add()([values, inner]))


def _normed(values: Any) -> Any:
    return keras.layers.BatchNormalization(momentum=MOMENTUM)(values)


def augment(images: Any, seed: Any) -> Any:
    """Pictures as they might also have been taken: float32 (rows, height, width, 3), 0 to 1, to the same.

    Each row is mirrored, cropped, scaled, stretched, shifted, turned, and changed in brightness, contrast and colour by
    amounts of its own. `seed` (int32, shape (2,)) decides all of them: the same seed and rows, the same pictures.
    """
    drawn = tf.random.stateless_uniform((9, tf.shape(images)[0]), seed, -1.0, 1.0)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=_transforms(drawn[:6], images),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    return _coloured(tf.ensure_shape(moved, images.shape), drawn[6:])


def _transforms(drawn: Any, images: Any) -> Any:
    """For each row where in the picture a point of the result is from: (rows, 8), as ImageProjectiveTransform has it.

    `drawn` is float32 (6, rows), -1 to 1: mirror, crop, stretch, turn, and two shifts.
    """
    shape = tf.cast(tf.shape(images)[1:3], tf.float32)
    middle_y, middle_x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    crop = (SMALLEST_CROP + LARGEST_CROP) / 2 + drawn[1] * (LARGEST_CROP - SMALLEST_CROP) / 2
    stretch = tf.exp(drawn[2] * STRETCH)
    across = crop * stretch * tf.where(drawn[0] < 0, -1.0, 1.0)
    down = crop / stretch
    cosine, sine = tf.cos(drawn[3] * TURN), tf.sin(drawn[3] * TURN)
    room = tf.maximum(1 - crop, 0) / 2 + SHIFT
    shift_x, shift_y = drawn[4] * room * shape[1], drawn[5] * room * shape[0]
    a, b, d, e = across * cosine, -down * sine, across * sine, down * cosine
    zero = tf.zeros_like(a)
    c = middle_x - a * middle_x - b * middle_y + shift_x
    f = middle_y - d * middle_x - e * middle_y + shift_y
    return tf.stack([a, b, c, d, e, f, zero, zero], axis=1)


def _coloured(images: Any, drawn: Any) -> Any:
    """Saturation, contrast and brightness of each row by `drawn`, float32 (3, rows), -1 to 1."""
    saturation, contrast, brightness = drawn[0] * SATURATION, drawn[1] * CONTRAST, drawn[2] * BRIGHTNESS
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    images = grey + (images - grey) * (1 + saturation)[:, None, None, None]
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = mean + (images - mean) * (1 + contrast)[:, None, None, None]
    return tf.clip_by_value(images + brightness[:, None, None, None], 0.0, 1.0)
