"""The recognizer's layers: arranged for training, padded, and as ONNX, they are the same function."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from modelhub.recipes.speech import export, model, settings
from modelhub.recipes.speech.features import Frames

LABELS = 5
FRAMES = [17, 30, 9, 1]


@pytest.fixture(scope="module")
def recognizer() -> Any:
    """With random weights everywhere, biases and norms too."""
    made = model.build(labels=LABELS, filters=12, units=7, layers=2)
    generator = np.random.default_rng(1)
    for weight in made.weights:
        weight.assign(generator.normal(0, 0.4, weight.shape).astype(np.float32))
    return made


def rows(seed: int = 0) -> list[Frames]:
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 1, (frames, 64)).astype(np.float32) for frames in FRAMES]


def by_keras(recognizer: Any, row: Frames) -> Frames:
    """The logarithms of the probabilities of one row alone, without padding: (steps, labels + 1)."""
    steps = settings.steps_of(len(row))
    logits = recognizer([row[None], np.ones((1, steps), np.float32)])
    found: Frames = np.asarray(tf.nn.log_softmax(logits))[0]
    return found


def padded(given: list[Frames]) -> tuple[Any, Any]:
    frames = settings.padded(given, settings.bucket(max(len(row) for row in given)))
    return frames, np.asarray([settings.steps_of(len(row)) for row in given], np.int32)


def test_padding_changes_nothing(recognizer: Any) -> None:
    frames, steps = padded(rows())
    mask = np.asarray(tf.sequence_mask(steps, frames.shape[1] // 2, tf.float32))
    found = np.asarray(tf.nn.log_softmax(recognizer([frames, mask])))
    for row, length, one in zip(rows(), steps, found, strict=True):
        np.testing.assert_allclose(one[:length], by_keras(recognizer, row), atol=1e-5)


def test_the_layers_for_training_are_those_of_keras(recognizer: Any) -> None:
    frames, steps = padded(rows())
    found = np.asarray(tf.nn.log_softmax(model.forward(recognizer, frames, steps)))
    for place, (row, length) in enumerate(zip(rows(), steps, strict=True)):
        np.testing.assert_allclose(found[:length, place], by_keras(recognizer, row), atol=1e-5)


def test_their_gradient_is_that_of_keras(recognizer: Any) -> None:
    frames, steps = padded(rows())
    mask = np.asarray(tf.sequence_mask(steps, frames.shape[1] // 2, tf.float32))
    weights = np.random.default_rng(9).normal(0, 1, (*mask.shape, LABELS + 1)).astype(np.float32)
    weights = tf.constant(weights) * mask[:, :, None]
    variables = [variable.value for variable in recognizer.trainable_variables]
    with tf.GradientTape() as tape:
        wanted = tf.reduce_sum(weights * recognizer([frames, mask]))
    expected = tape.gradient(wanted, variables)
    with tf.GradientTape() as tape:
        found = tf.reduce_sum(tf.transpose(weights, (1, 0, 2)) * model.forward(recognizer, frames, steps))
    for variable, one, other in zip(variables, tape.gradient(found, variables), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3, err_msg=variable.name)


def test_dropout_is_drawn_from_its_seed(recognizer: Any) -> None:
    frames, steps = padded(rows())

    def found(seed: tuple[int, int]) -> Any:
        return np.asarray(model.forward(recognizer, frames, steps, dropout=0.5, seed=tf.constant(seed)))

    assert np.array_equal(found((1, 2)), found((1, 2)))
    assert not np.allclose(found((1, 2)), found((1, 3)))
    assert not np.allclose(found((1, 2)), model.forward(recognizer, frames, steps))


def test_the_onnx_file_answers_as_keras_does(recognizer: Any, tmp_path: Path) -> None:
    export.write(recognizer, tmp_path / export.FILE)
    found = export.Session(tmp_path / export.FILE).scored(rows())
    for row, one in zip(rows(), found, strict=True):
        np.testing.assert_allclose(one, by_keras(recognizer, row), atol=1e-5)


def test_the_onnx_file_takes_a_row_without_frames(recognizer: Any, tmp_path: Path) -> None:
    export.write(recognizer, tmp_path / export.FILE)
    _, row, *_ = rows()
    nothing, found = export.Session(tmp_path / export.FILE).scored([row[:0], row])
    assert len(nothing) == 0
    np.testing.assert_allclose(found, by_keras(recognizer, row), atol=1e-5)
