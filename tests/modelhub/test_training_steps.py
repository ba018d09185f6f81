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

from modelhub.recipes.base import checked
from modelhub.recipes.image import convnet, recipe, seed_cnn
from modelhub.recipes.image.learner import PictureLearner
from modelhub.trainer import ahead, convert, fit, gate, pixels
from modelhub.trainer.adam import FusedAdam, Rate
from modelhub.trainer.fit import Fit
from modelhub.trainer.pace import Pace
from modelhub.trainer.pixels import Split
from modelhub.trainer.task import STOP_FILE, Failure, Item, NothingToKeep, Reporter, Task
from tests.modelhub import zips

PARAMETERS = checked(recipe.PARAMETERS, {})
SHAPE = (150, 150, 3)


@pytest.fixture
def told(tmp_path: Path) -> Iterator["Told"]:
    with Told(tmp_path / "told") as found:
        yield found


class Told:
    """A reporter's other end."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent
        self._file = file.open("wb")
        self.report = Reporter(self._file.fileno())

    def __enter__(self) -> "Told":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def messages(self, kind: str) -> list[Any]:
        lines = map(json.loads, Path(self._file.name).read_text().splitlines())
        return [line[kind] for line in lines if kind in line]


def split(rows: int = 40, *, seed: int = 0, classes: int = 2, shape: tuple[int, ...] = SHAPE) -> Split:
    """Noise with a colour brightened for each class after the first: it can be learned."""
    drawn = np.random.default_rng(seed).integers(0, 100, (rows, *shape), dtype=np.uint8)
    labels = np.arange(rows) * classes // rows
    for label in range(1, classes):
        drawn[labels == label, ..., label % 3] += 150
    return Split(rows=drawn, labels=labels)  # type: ignore[arg-type]


def learner(train: Split, validation: Split | None = None, *, classes: int = 2, **parameters: Any) -> PictureLearner:
    """One that has read its splits."""
    task = Task(
        recipe="image-classifier", parameters=checked(recipe.PARAMETERS, parameters), kind="image-classification",
        labels=["cat", "dog", "owl"][:classes], columns=[], train=[], validation=[], max_pixels=10**6,
    )  # fmt: skip
    found = PictureLearner(task)
    found.train, found.validation = train, validation or train
    found.begin()
    return found


def fitting(at: PictureLearner, told: "Told", *, model: Any = None, **options: Any) -> Fit:
    """A training of a model from the learner's seed."""
    parameters = at._task.parameters
    if model is None:
        fit.be_repeatable(parameters["seed"])
        model = at.build()
    folder = told.folder
    return Fit(at, model, parameters=parameters, folder=folder, report=told.report, pace=Pace(0.0, 0), **options)


def built(seed: int = 0) -> Any:
    keras.utils.set_random_seed(seed)
    return seed_cnn.build()


def weights_of(model: Any) -> bytes:
    return b"".join(np.asarray(variable.value).tobytes() for variable in model.variables)


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
    at = learner(split(80))
    ours, plain = built(), built()
    plain.compile(keras.optimizers.Adam(0.001), "binary_crossentropy", metrics=["accuracy"])
    step = fit.training_step(
        ours, learner=at, optimizer=fit.optimizer_of(ours, parameters=PARAMETERS, steps=at.steps_per_epoch)
    )  # fmt: skip
    sizes = []
    for rows, labels, seed in at.batches(epoch=1):
        loss, sums = step(rows, labels, seed)
        expected = plain.train_on_batch(np.asarray(rows, np.float32) / 255, labels, return_dict=True)
        plain.reset_metrics()
        assert float(loss) == pytest.approx(float(expected["loss"]), rel=1e-4, abs=1e-5)
        assert float(sums["right"]) / len(labels) == pytest.approx(float(expected["accuracy"]))
        sizes.append(int(sums["rows"]))
    assert sizes == [32, 32, 16]
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


def test_decay_and_clipping_are_those_of_keras() -> None:
    draw = np.random.default_rng(0)
    starts = [draw.normal(size=shape).astype(np.float32) for shape in ((8, 4), (4,))]
    ours, theirs = ([keras.Variable(start) for start in starts] for _ in range(2))
    mine = FusedAdam(0.01, decay=0.1, clip_norm=0.5)
    plain = keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5)
    plain.exclude_from_weight_decay(var_list=[theirs[1]])  # a bias
    for size in (0.01, 10.0, 0.1):
        gradients = [tf.constant(size * draw.normal(size=start.shape).astype(np.float32)) for start in starts]
        mine.apply(gradients, ours)
        plain.apply(gradients, theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6)


def test_rows_of_a_table_that_were_used_twice_get_both_gradients() -> None:
    tables = [keras.Variable(np.ones((4, 2), np.float32)) for _ in range(2)]
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([1, 1]), (4, 2))
    dense = tf.constant([[0.0, 0.0], [4.0, 6.0], [0.0, 0.0], [0.0, 0.0]])
    for gradient, table in zip((slices, dense), tables, strict=True):
        FusedAdam(0.01, clip_norm=1.0).apply([gradient], [table])
    assert np.array_equal(np.asarray(tables[0]), np.asarray(tables[1]))
    assert not np.array_equal(np.asarray(tables[0]), np.ones((4, 2)))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [0.5, 1, 1, 0.853553, 0.5, 0.146447, 0]),
    ],
)
def test_a_learning_rate_rises_and_goes_on_as_its_schedule_says(schedule: str, rates: list[float]) -> None:
    rate = Rate(2.0, schedule=schedule, warmup_steps=2, steps=6)
    assert [float(rate(step)) for step in range(7)] == pytest.approx([2 * one for one in rates], abs=1e-6)


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


@pytest.mark.parametrize("architecture", ["seed-cnn", "convnet"])
def test_the_same_seed_gives_the_same_model(told: Told, architecture: str) -> None:
    shape = SHAPE if architecture == "seed-cnn" else (convnet.HEIGHT, convnet.WIDTH, 3)

    def trained(seed: int) -> tuple[list[dict[str, Any]], bytes]:
        at = learner(
            split(shape=shape), split(8, seed=1, shape=shape), architecture=architecture, epochs=2, steps_per_epoch=2,
            batch_size=8, validation_steps=1, seed=seed,
        )  # fmt: skip
        training = fitting(at, told)
        return training.run(), weights_of(training._model)

    (history, first), (_, second), (_, other) = trained(3), trained(3), trained(4)
    assert first == second
    assert first != other
    assert [row["epoch"] for row in history] == [1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "seconds", "rows_per_second"} < history[0].keys()
    assert told.messages("epoch")[:2] == history
    last = told.messages("progress")[-1]
    assert (last["phase"], last["done"], last["total"], last["epoch"]) == ("training", 2, 2, 2)
    assert last["seconds_left"] >= 0


@pytest.mark.parametrize("classes", [2, 3])
def test_training_learns_what_can_be_learned(told: Told, classes: int) -> None:
    at = learner(
        split(66, classes=classes), split(18, seed=9, classes=classes), classes=classes, epochs=8,
        batch_size=16, learning_rate=1e-4, class_weights="balanced",
    )  # fmt: skip
    history = fitting(at, told).run()
    assert max(row["val_accuracy"] for row in history) == 1.0


@pytest.mark.parametrize(("rate", "value"), [(1.0, float("nan")), (1.0, float("inf"))])
def test_a_loss_that_is_no_number_ends_the_training_and_names_the_step(told: Told, rate: float, value: float) -> None:
    training = fitting(learner(split(), steps_per_epoch=5, epochs=2), told)
    calls = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, value])
    training._step = lambda *batch: (next(calls), {"rows": 8, "right": 4})
    word = "NaN" if value != value else "infinite"
    with pytest.raises(Failure, match=f"loss became {word} at step 2 of 5 in epoch 2.*learning_rate.*clip_norm"):
        training.run()


def test_weights_that_run_away_end_the_training(told: Told) -> None:
    at = learner(split(), steps_per_epoch=5)
    at._task.parameters["learning_rate"] = 1e30
    with pytest.raises(Failure, match=r"The loss became (NaN|infinite) at step \d of 5"):
        fitting(at, told).run()


class Scripted(Fit):
    """A training whose epochs come to what is written down; its weights are the number of the epoch."""

    script: tuple[float, ...] = ()

    def _train(self, batches: Any, steps: int) -> None:
        self.place.steps, self.place.sums = steps, {"rows": 8.0, "right": 4.0}
        self._model.variables[0].assign(np.full_like(np.asarray(self._model.variables[0].value), self.place.epoch))

    def _measured(self) -> dict[str, Any]:
        found = self.script[self.place.epoch - 1]
        return {"epoch": self.place.epoch, "val_accuracy": found if found == found else None}


@pytest.mark.parametrize(
    ("script", "patience", "best", "epochs"),
    [
        ((0.5, 0.7, 0.6, 0.65), None, 2, 4),
        ((0.5, 0.7, 0.7, 0.6), None, 2, 4),  # as good is not better
        ((0.5, 0.7, 0.6, 0.65), 2, 2, 4),
        ((0.5, 0.4, 0.45, 0.9), 2, 1, 3),
        ((float("nan"), 0.4, float("nan"), 0.3), None, 2, 4),
        ((0.1, 0.2, 0.3, 0.4), 1, 4, 4),
    ],
)
def test_the_best_epochs_weights_are_kept(
    told: Told, script: tuple[float, ...], patience: int | None, best: int, epochs: int
) -> None:
    at = learner(split(8), epochs=4, early_stopping=patience)
    training = Scripted(
        at, built(), parameters=at._task.parameters, folder=told.folder, report=told.report, pace=Pace(0.0, 0)
    )  # fmt: skip
    training.script = script
    assert len(training.run()) == epochs
    assert training.place.best_epoch == best
    assert np.unique(np.asarray(training._model.variables[0].value)).tolist() == [best]
    assert (training.ended_by == "early") == (epochs < 4)


def test_a_training_that_is_told_to_stop_keeps_what_it_has(told: Told) -> None:
    at = learner(split(16), epochs=9, steps_per_epoch=3, batch_size=8)
    training = fitting(at, told)
    step, calls = training._step, []

    def counted(*batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 5:
            (told.folder / STOP_FILE).touch()
        return step(*batch)

    training._step = counted
    history = training.run()
    assert (len(calls), len(history), training.ended_by) == (5, 2, "stop")
    assert training.place.best_epoch in (1, 2)
    with pytest.raises(NothingToKeep):
        fitting(at, told).run()


def test_a_deadline_ends_the_epoch_where_it_is(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelhub.trainer.task.SECONDS_BETWEEN_PROGRESS", 0.0)
    at = learner(split(16), epochs=9, steps_per_epoch=3, batch_size=8)
    training = fitting(at, told)
    training._pace = Pace(1e6, 0, ends=0.0)
    history = training.run()
    assert (len(history), training.ended_by) == (1, "deadline")
    assert told.messages("progress")[-1]["done"] == 2  # the first step is no measure


def test_what_making_a_batch_raises_is_raised_where_it_is_asked_for() -> None:
    def batches() -> Iterator[Any]:
        yield (1,)
        raise ValueError("no more")

    with ahead.fetched(batches(), most=5) as coming:
        assert next(coming) == (1,)
        with pytest.raises(ValueError, match="no more"):
            next(coming)
    with ahead.fetched(iter([(1,)]), most=2) as coming, pytest.raises(RuntimeError, match="fewer batches"):
        list(coming)
    made = []
    endless = (made.append(n) or (n,) for n in range(10**6))  # type: ignore[func-returns-value]
    with ahead.fetched(endless, most=10**6) as coming:
        assert next(coming) == (0,)
    assert len(made) < 10


def test_pictures_are_decoded_once_and_bad_ones_are_named(tmp_path: Path, told: Told) -> None:
    found = decoded(tmp_path, told, [zips.picture(1), b"not a picture", zips.picture(2)])
    assert found.labels.tolist() == [0, 0, 1]
    for place, data in ((0, zips.picture(1)), (2, zips.picture(2))):
        assert np.array_equal(found.rows[min(place, 1)], pixels_of(data))
    (line,) = told.messages("log")
    assert line.startswith("Left out train/cat/1.jpg: ")


def test_a_class_without_a_readable_picture_fails_in_words(tmp_path: Path, told: Told) -> None:
    with pytest.raises(Failure, match="The train split has no picture of dog that can be read: 1 of its 2 files"):
        decoded(tmp_path, told, [zips.picture(1)], dog=b"not a picture")


def pixels_of(raw: bytes) -> Any:
    return recipe.pixels_of(raw, height=150, width=150, max_pixels=10**6)


def decoded(folder: Path, told: Told, cats: list[bytes], *, dog: bytes | None = None) -> Split:
    """The split of these cats and one dog."""
    items = []
    for number, data in enumerate([*cats, dog or zips.picture(9)]):
        file = folder / str(number)
        file.write_bytes(data)
        label = ("cat", "dog")[number == len(cats)]
        items.append(Item(file=str(file), name=f"train/{label}/{number}.jpg", target=label))
    return pixels.decoded(
        items,
        split="train",
        classes=["cat", "dog"],
        read=pixels_of,
        shape=SHAPE,
        file=folder / "train.uint8",
        report=told.report,
    )


def test_each_picture_is_seen_once_an_epoch_in_another_order() -> None:
    at = learner(split(70))
    first, second = ([row.tobytes() for batch in at.batches(epoch=n) for row in batch[0]] for n in (1, 2))
    assert sorted(first) == sorted(second) == sorted(row.tobytes() for row in at.train.rows)
    assert first != second != [row.tobytes() for row in at.train.rows]


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
