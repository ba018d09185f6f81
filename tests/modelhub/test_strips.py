"""Strips: the same answers as layer by layer, whatever the sizes, and other models as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from modelhub.recipes.image import seed_cnn
from modelhub.trainer import convert, strips

layers = keras.layers


def model(*, height: int = 21, kernel: int = 3, pool: int = 2, bias: bool = True, **convolution: Any) -> Any:
    """With a layer before and after those that are for strips, and biases that are not zero."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            layers.Input((height, 17, 3)),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(4, kernel, activation="relu", bias_initializer="random_normal", **convolution),
            layers.MaxPooling2D(pool),
            layers.Flatten(),
            layers.Dense(8, activation="relu", use_bias=bias, bias_initializer="random_normal"),
            layers.Dropout(0.5),
            layers.Dense(2, activation="softmax"),
        ]
    )


def rows_for(made: Any, rows: int = 5) -> Any:
    return np.random.default_rng(1).random((rows, *made.input_shape[1:]), np.float32)


def assert_same(made: Any) -> None:
    rows = rows_for(made)
    np.testing.assert_allclose(strips.forward(made)(rows), made(rows, training=False), rtol=1e-4, atol=1e-6)


@pytest.fixture
def rows_to_a_strip(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many pooled rows of `model()` (two of 15 × 4 floats before pooling) are a strip."""
    return lambda count: monkeypatch.setattr(strips, "STRIP_BYTES", count * 2 * 15 * 4 * strips.FLOAT_BYTES)


class TestForward:
    @pytest.mark.parametrize(("to_a_strip", "expected"), [(1, 9), (2, 5), (4, 3), (8, 2)])
    def test_the_answers_are_the_models_whatever_the_strips(
        self, rows_to_a_strip: Callable[[int], None], to_a_strip: int, expected: int
    ) -> None:
        rows_to_a_strip(to_a_strip)
        made = model()
        found = strips.bounds(made.layers[1:5])
        assert len(found) == expected
        assert [row for first, last in found for row in range(first, last)] == list(range(9))
        assert_same(made)

    @pytest.mark.parametrize("height", [20, 22, 23])
    @pytest.mark.parametrize("kernel", [1, 2, 5])
    @pytest.mark.parametrize("pool", [2, 3])
    @pytest.mark.parametrize("bias", [True, False])
    def test_the_answers_are_the_models_whatever_the_sizes(
        self, rows_to_a_strip: Callable[[int], None], height: int, kernel: int, pool: int, bias: bool
    ) -> None:
        rows_to_a_strip(2)
        made = model(height=height, kernel=kernel, pool=pool, bias=bias)
        assert len(strips.bounds(made.layers[1:5])) > 1
        assert_same(made)

    def test_there_are_never_more_than_so_many_strips(
        self, rows_to_a_strip: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows_to_a_strip(1)
        monkeypatch.setattr(strips, "MOST_STRIPS", 4)
        made = model()
        assert len(strips.bounds(made.layers[1:5])) == 4
        assert_same(made)

    @pytest.mark.parametrize(
        "convolution", [{"padding": "same"}, {"strides": 2}, {"dilation_rate": 2}, {"dtype": "float16"}]
    )
    def test_layers_that_strips_do_not_know_stay_as_they_are(
        self, rows_to_a_strip: Callable[[int], None], convolution: dict[str, Any]
    ) -> None:
        rows_to_a_strip(1)
        made = model(**convolution)
        assert strips.bounds(made.layers[1:5]) == []
        rows = rows_for(made)
        assert np.array_equal(strips.forward(made)(rows), made(rows, training=False))

    def test_what_is_one_strip_stays_as_it_is(self) -> None:
        made = model()
        assert strips.bounds(made.layers[1:5]) == []

    def test_a_model_that_is_no_sequence_stays_as_it_is(self, rows_to_a_strip: Callable[[int], None]) -> None:
        rows_to_a_strip(1)
        given = layers.Input((21, 17, 3))
        pooled = layers.MaxPooling2D(2)(layers.Conv2D(4, 3)(given))
        made = keras.Model(given, layers.Dense(64)(layers.Flatten()(pooled)))
        assert len(strips.bounds(made.layers[1:5])) == 9
        rows = rows_for(made)
        assert np.array_equal(strips.forward(made)(rows), made(rows, training=False))


@pytest.mark.parametrize("int8", [False, True])
def test_the_seed_cnns_file_is_in_strips_and_answers_as_the_model(tmp_path: Path, int8: bool) -> None:
    keras.utils.set_random_seed(0)
    made = seed_cnn.build()
    convert.litert_file(made, "image", "score", tmp_path / "file.tflite", int8=int8)
    interpreter = Interpreter(model_path=str(tmp_path / "file.tflite"), num_threads=1)
    rows = rows_for(made, 3)
    interpreter.resize_tensor_input(0, rows.shape)
    interpreter.allocate_tensors()
    operations = [one["op_name"] for one in interpreter._get_ops_details()]
    assert operations.count("CONV_2D") == operations.count("MAX_POOL_2D") == len(strips.bounds(made.layers[:4])) == 6
    interpreter.set_tensor(0, rows)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    difference = np.max(np.abs(found - made(rows, training=False)))
    assert difference < (0.003 if int8 else 1e-5)
