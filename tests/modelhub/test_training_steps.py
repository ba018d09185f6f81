"""The training loop against plain Keras: the same mathematics, faster."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from modelhub import recipes
from modelhub.recipes import seed_cnn
from modelhub.recipes.base import checked
from modelhub.trainer import convert, fit, gate, pixels
from modelhub.trainer.adam import FusedAdam
from modelhub.trainer.pixels import Split
from modelhub.trainer.task import Failure, Item, Reporter
from tests.modelhub import zips

RECIPE = recipes.get("image-classifier")
PARAMETERS = checked(RECIPE.parameters, {})


@pytest.fixture
def told(tmp_path: Path) -> Iterator["Told"]:
    with Told(tmp_path / "told") as found:
        yield found


class Told:
    """A reporter's other end."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("wb")
        self.report = Reporter(self._file.fileno())

    def __enter__(self) -> "Told":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def messages(self, kind: str) -> list[Any]:
        lines = map(json.loads, Path(self._file.name).read_text().splitlines())
        return [line[kind] for line in lines if kind in line]


def split(rows: int = 40, *, seed: int = 0) -> Split:
    """Noise, of which the first half is brighter: it can be learned."""
    drawn = np.random.default_rng(seed).integers(0, 200, (rows, *RECIPE.row_shape), dtype=np.uint8)
    drawn[: rows // 2] += 55
    return Split(rows=drawn, labels=np.arange(rows) * 2 // rows)  # type: ignore[arg-type]


def built(seed: int = 0) -> Any:
    keras.utils.set_random_seed(seed)
    return RECIPE.build(PARAMETERS)


def test_the_architecture_is_the_seeds_layer_by_layer() -> None:
    model = built()
    found = [(type(layer).__name__, layer.get_config()) for layer in model.layers]
    assert [name for name, _ in found] == ["Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense"]
    convolution, pooling, _, hidden, output = (config for _, config in found)
    assert (convolution["filters"], convolution["kernel_size"], convolution["activation"]) == (32, (3, 3), "relu")
    assert pooling["pool_size"] == (2, 2)
    assert (hidden["units"], hidden["activation"]) == (128, "relu")
    assert (output["units"], output["activation"]) == (1, "sigmoid")
    assert model.count_params() == 22_430_849
    assert model.input_shape == (None, 150, 150, 3)


def test_steps_agree_with_plain_keras() -> None:
    data = split(96)
    ours, plain = built(), built()
    plain.compile(keras.optimizers.Adam(0.001), "binary_crossentropy", metrics=["accuracy"])
    step = fit.training_step(ours, recipe=RECIPE, parameters=PARAMETERS)
    for rows, labels in data.batches():
        loss, right = step(rows, labels)
        expected = plain.train_on_batch(np.asarray(rows, np.float32) / 255, np.asarray(labels), return_dict=True)
        plain.reset_metrics()
        assert float(loss) == pytest.approx(float(expected["loss"]), rel=1e-4, abs=1e-5)
        assert int(right) / len(labels) == pytest.approx(float(expected["accuracy"]))
    for mine, theirs in zip(ours.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), atol=2e-4)


def test_the_fused_adam_is_adam() -> None:
    draw = np.random.default_rng(0)
    start = draw.normal(size=(64, 32)).astype(np.float32)
    variables = [keras.Variable(start), keras.Variable(start)]
    optimizers = [FusedAdam(0.01), keras.optimizers.Adam(0.01)]
    for _ in range(20):
        gradient = tf.constant(draw.normal(size=start.shape).astype(np.float32))
        for optimizer, variable in zip(optimizers, variables, strict=True):
            optimizer.apply([gradient], [variable])
    assert not np.allclose(np.asarray(variables[0]), start)
    np.testing.assert_allclose(np.asarray(variables[0]), np.asarray(variables[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [2, 6, 148])
def test_the_gradient_of_pooling_goes_where_tensorflow_sends_it(size: int) -> None:
    # Few different values: many squares have their maximum several times.
    values = tf.constant(np.random.default_rng(size).integers(0, 3, (2, size, size, 4)).astype(np.float32))
    gradient = tf.random.normal((2, size // 2, size // 2, 4))
    found = []
    for pool in (seed_cnn._pool, lambda v: tf.nn.max_pool2d(v, 2, 2, "VALID")):
        with tf.GradientTape() as tape:
            tape.watch(values)
            pooled = pool(values)
        found.append((pooled, tape.gradient(pooled, values, gradient)))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


def test_the_same_seed_gives_the_same_model(told: Told) -> None:
    parameters = PARAMETERS | {"epochs": 2, "steps_per_epoch": 2, "validation_steps": 1}

    def weights(seed: int) -> tuple[list[dict[str, Any]], bytes]:
        fit.be_repeatable(seed)
        model = RECIPE.build(parameters)
        history = fit.fit(
            model,
            recipe=RECIPE,
            parameters=parameters | {"seed": seed},
            train=split(),
            validation=split(8, seed=1),
            report=told.report,
        )
        return history, b"".join(np.asarray(v).tobytes() for v in model.trainable_variables)

    (history, first), (_, second), (_, other) = weights(3), weights(3), weights(4)
    assert first == second
    assert first != other
    assert [row["epoch"] for row in history] == [1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "seconds", "rows_per_second"} < history[0].keys()
    assert told.messages("epoch")[:2] == history
    last = told.messages("progress")[-1]
    assert (last["phase"], last["done"], last["total"], last["epoch"]) == ("training", 2, 2, 2)


def test_training_learns_what_can_be_learned(told: Told) -> None:
    fit.be_repeatable(0)
    model = RECIPE.build(PARAMETERS)
    parameters = PARAMETERS | {"epochs": 4, "learning_rate": 1e-4}
    history = fit.fit(
        model, recipe=RECIPE, parameters=parameters, train=split(64), validation=split(16, seed=9), report=told.report
    )
    assert history[-1]["val_accuracy"] == 1.0


def test_a_loss_that_is_no_number_ends_the_training_and_names_the_step(told: Told) -> None:
    with pytest.raises(Failure, match=r"The loss became (nan|inf) in epoch 1 at step \d of 5.*learning_rate"):
        fit.fit(
            built(),
            recipe=RECIPE,
            parameters=PARAMETERS | {"learning_rate": 1e30, "steps_per_epoch": 5},
            train=split(),
            validation=split(4),
            report=told.report,
        )


def test_pictures_are_decoded_once_and_bad_ones_are_named(tmp_path: Path, told: Told) -> None:
    found = decoded(tmp_path, told, [zips.picture(1), b"not a picture", zips.picture(2)])
    assert found.labels.tolist() == [0, 0, 1]
    for place, data in ((0, zips.picture(1)), (2, zips.picture(2))):
        assert np.array_equal(found.rows[min(place, 1)], RECIPE.row(data, max_pixels=10**6))
    (line,) = told.messages("log")
    assert line.startswith("Left out train/cat/1.jpg: ")


def test_a_class_without_a_readable_picture_fails_in_words(tmp_path: Path, told: Told) -> None:
    with pytest.raises(Failure, match="The train split has no picture of dog that can be read: 1 of its 2 files"):
        decoded(tmp_path, told, [zips.picture(1)], dog=b"not a picture")


def decoded(folder: Path, told: Told, cats: list[bytes], *, dog: bytes | None = None) -> Split:
    """The split of these cats and one dog."""
    items = []
    for number, data in enumerate([*cats, dog or zips.picture(9)]):
        file = folder / str(number)
        file.write_bytes(data)
        label = int(number == len(cats))
        items.append(Item(file=str(file), name=f"train/{('cat', 'dog')[label]}/{number}.jpg", label=label))
    return pixels.decoded(
        items,
        split="train",
        classes=["cat", "dog"],
        recipe=RECIPE,
        max_pixels=10**6,
        file=folder / "train.uint8",
        report=told.report,
    )


def test_each_picture_is_seen_once_an_epoch_in_another_order() -> None:
    data = split(70)
    twice = [row.tobytes() for rows, _ in data.batches(shuffle_seed=5).repeat(2) for row in np.asarray(rows)]
    first, second = twice[:70], twice[70:]
    assert sorted(first) == sorted(second) == sorted(row.tobytes() for row in data.rows)
    assert first != second != [row.tobytes() for row in data.rows]


@pytest.mark.parametrize(
    ("int8", "served"),
    [
        ({"accuracy_drop": 0.01, "agreement": 0.98}, convert.INT8),
        ({"accuracy_drop": -0.2, "agreement": 0.99}, convert.INT8),
        ({"accuracy_drop": 0.011, "agreement": 1.0}, convert.FP32),
        ({"accuracy_drop": 0.0, "agreement": 0.979}, convert.FP32),
        ({"accuracy_drop": float("nan"), "agreement": 1.0}, convert.FP32),
    ],
)
def test_the_small_file_is_served_only_if_it_is_as_good(int8: dict[str, float], served: str) -> None:
    passed = gate.passing({convert.FP32: {"max_difference": 1e-6}, convert.INT8: int8})
    assert gate.serving(passed)["file"] == served
    assert (convert.INT8 in passed) == (served == convert.INT8)


@pytest.mark.parametrize(("difference", "passes"), [(1e-3, True), (1.1e-3, False), (float("nan"), False)])
def test_an_onnx_file_is_a_candidate_only_if_it_is_the_same_model(difference: float, passes: bool) -> None:
    int8 = {"accuracy_drop": 0.0, "agreement": 1.0}
    same, other = {"max_difference": 1e-6}, {"max_difference": difference}
    serving = gate.serving(gate.passing({convert.FP32: same, convert.INT8: int8, convert.ONNX: other}))
    expected = [("litert", convert.INT8), ("litert", convert.FP32)] + [("onnx", convert.ONNX)] * passes
    assert [(one["engine"], one["file"]) for one in serving["candidates"]] == expected


@pytest.mark.parametrize("difference", [1.1e-3, float("nan")])
def test_a_conversion_that_is_another_model_fails_the_job(difference: float) -> None:
    with pytest.raises(Failure, match="does not agree with the trained model"):
        gate.passing({convert.FP32: {"max_difference": difference}})


def test_a_reporter_writes_whole_lines(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    report = Reporter(writing)
    report.log("x" * 3000)
    report.progress("training", 1, 2)
    report.progress("training", 1, 2)  # too soon to be told again
    os.close(writing)
    with os.fdopen(reading) as lines:
        kinds = [next(iter(json.loads(line))) for line in lines]
    assert kinds == ["log", "progress"]
