"""Recipes: what their parameters may be, and what a version does with a picture."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub import evaluation, recipes
from modelhub.datasets import Manifest as Content
from modelhub.pictures import NotAPicture
from modelhub.recipes import order, schedule
from modelhub.recipes.base import Parameter, checked
from modelhub.recipes.image import recipe
from modelhub.recipes.image.recipe import ImageClassifier
from tenants.errors import Invalid
from tests.live import ROOT
from tests.modelhub import zips

RECIPE = ImageClassifier()
LABELS = ["cat", "dog"]
# As versions from before there were more than two classes have it.
MANIFEST = {
    "labels": LABELS,
    "preprocessing": {"kind": "picture", "height": 150, "width": 150, "scale": "1/255"},
    "decision": {"kind": "binary", "threshold": 0.5},
}


def test_the_recipes_import_no_tensorflow() -> None:
    code = "import sys, modelhub.recipes; assert not {'tensorflow', 'keras', 'django'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(Invalid, match="image-classifier"):
        recipes.get("crystal-ball")


def test_parameters_that_are_left_out_have_their_defaults() -> None:
    assert checked(RECIPE.parameters, {"epochs": 7}) == {
        "architecture": "seed-cnn",
        "epochs": 7,
        "batch_size": 32,
        "learning_rate": 0.001,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "clip_norm": None,
        "early_stopping": None,
        "steps_per_epoch": None,
        "validation_steps": None,
        "seed": 0,
        "class_weights": "none",
    }


def test_an_architecture_has_defaults_of_its_own() -> None:
    found = checked(RECIPE.parameters, {"architecture": "convnet", "early_stopping": None})
    assert (found["schedule"], found["batch_size"], found["early_stopping"]) == ("cosine", 32, None)
    assert checked(RECIPE.parameters, {"architecture": "convnet"})["early_stopping"] > 0


@pytest.mark.parametrize("wrong", [{"epoch": 3}, {"class_weights": "none"}])
def test_a_recipe_cannot_default_what_is_no_parameter(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="no training parameters"):
        schedule.training_parameters(**wrong)
    with pytest.raises(TypeError, match="no training parameters"):
        schedule.training_parameters(by_architecture={"big": wrong})
    with pytest.raises(ValueError, match="epochs cannot be 0 by default"):
        schedule.training_parameters(epochs=0)


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        ("boolean", [True, False], [0, "true", None, []], "true or false"),
        ("text", ["ab", "abcd"], ["a", "abcde", "a\0b", 3, None], "a text of 2 to 4 characters"),
    ],
)
def test_parameters_may_be_texts_and_booleans(kind: str, good: list[Any], bad: list[Any], words: str) -> None:
    parameter = Parameter("p", kind, "", default=good[0], minimum=2, maximum=4)
    assert [value for value in [*good, *bad] if parameter.accepts(value)] == good
    assert parameter.expected == words
    assert parameter.as_json()["minimum"] == (2 if kind == "text" else None)


@given(rows=st.integers(1, 50), batch_size=st.integers(1, 20), steps=st.integers(1, 9), skip=st.integers(0, 9))
def test_the_order_of_rows_can_be_taken_up_anywhere(rows: int, batch_size: int, steps: int, skip: int) -> None:
    def found(epoch: int, skip: int = 0) -> list[list[int]]:
        batches = order.places(rows, batch_size=batch_size, steps=steps, seed=3, epoch=epoch, skip=skip)
        return [batch.tolist() for batch in batches]

    assert [len(found(epoch)) for epoch in (1, 2)] == [steps, steps]
    assert found(2, min(skip, steps)) == found(2)[min(skip, steps) :]
    seen = [row for epoch in range(1, 2 + rows) for batch in found(epoch) for row in batch]
    for start in range(0, len(seen) - rows + 1, rows):
        assert sorted(seen[start : start + rows]) == list(range(rows)), "a pass sees each row once"


def test_balanced_classes_count_alike() -> None:
    labels = np.array([0, 0, 0, 1])
    weights = schedule.class_weights(labels, classes=3, how="balanced")
    assert weights.tolist() == pytest.approx([4 / 9, 4 / 3, 0])
    assert schedule.class_weights(labels, classes=3, how="none").tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "an integer from 1 to 1000"),
        ("epochs", 1001, "an integer from 1 to 1000"),
        ("epochs", 1.0, "an integer from 1 to 1000"),
        ("epochs", True, "an integer from 1 to 1000"),
        ("epochs", None, "an integer from 1 to 1000"),
        ("epochs", "5", "an integer from 1 to 1000"),
        ("epochs", [1] * 100, "an integer from 1 to 1000"),
        ("steps_per_epoch", 0, "an integer from 1 to 1e+06, or null"),
        ("learning_rate", math.nan, "a number from 1e-06 to 1"),
        ("learning_rate", 10**400, "a number from 1e-06 to 1"),
        ("architecture", "resnet", "one of seed-cnn, convnet"),
        ("architecture", {}, "one of seed-cnn, convnet"),
        ("colour", "red", "expected some of architecture, epochs"),
    ],
)
def test_a_parameter_that_is_wrong_is_named_with_what_is_expected(name: str, value: Any, expected: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked(RECIPE.parameters, {name: value})
    (error,) = refused.value.errors
    assert error.field == f"parameters.{name}"
    assert expected in error.message


@given(low=st.integers(-1000, 1000), size=st.integers(0, 1000), value=st.integers(-3000, 3000))
def test_an_integer_is_taken_exactly_within_its_range(low: int, size: int, value: int) -> None:
    parameter = Parameter("n", "integer", "", default=low, minimum=low, maximum=low + size)
    assert parameter.accepts(value) == (low <= value <= low + size)


@pytest.mark.parametrize("classes", [(), ("cat",)])
def test_fewer_than_two_classes_are_refused_in_words(classes: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match=f"two classes or more apart; the data set has {len(classes)}"):
        RECIPE.check(Content(kind="image-classification", classes=classes, items=()), {})


def test_a_picture_is_prepared_as_it_was_for_training() -> None:
    data = zips.picture(1, height=90, width=200)
    prepared = np.empty((150, 150, 3), np.float32)
    served = RECIPE.served(MANIFEST)
    served.write(served.read(data), prepared)
    row = recipe.pixels_of(data, height=150, width=150, max_pixels=10**6)
    assert row.shape == (150, 150, 3)
    assert row.dtype == np.uint8
    # In the training graph rows are cast and scaled by TensorFlow: the same two float32 operations.
    assert np.array_equal(prepared, row.astype(np.float32) * recipe.SCALE)
    assert 0 <= prepared.min() < prepared.max() <= 1


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(NotAPicture):
        RECIPE.served(MANIFEST).read(b"not a picture")


@pytest.mark.parametrize(("score", "label"), [(0.0, "cat"), (0.4999, "cat"), (0.5, "dog"), (1.0, "dog")])
def test_a_score_becomes_the_label_it_speaks_for(score: float, label: str) -> None:
    answer = RECIPE.served(MANIFEST).answer({"score": np.array([score], np.float32)})
    assert answer["label"] == label
    assert answer["score"] == answer["scores"][label] >= 0.5
    assert list(answer["scores"]) == LABELS
    assert sum(answer["scores"].values()) == pytest.approx(1)


def test_one_of_several_labels_is_answered_with_the_scores_of_all() -> None:
    labels = ["cat", "dog", "owl"]
    interface = recipe.interface(labels, height=96, width=96)
    manifest = {"labels": labels, "preprocessing": interface.preprocessing, "decision": interface.decision}
    served = RECIPE.served(manifest)
    assert served.pixels == (96, 96, 3)
    assert [(one.name, one.shape) for one in interface.signature.outputs] == [("scores", (-1, 3))]
    answer = served.answer({"scores": np.array([[0.2, 0.5, 0.3]], np.float32)})
    assert answer == {"label": "dog", "score": 0.5, "scores": {"cat": 0.2, "dog": 0.5, "owl": 0.3}}


@given(st.lists(st.tuples(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.integers(0, 2)), min_size=1))
def test_metrics_of_several_classes_are_what_counting_gives(rows: list[tuple[list[float], int]]) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    truths = np.array([truth for _, truth in rows], np.int64)
    metrics = evaluation.classification(scores=scores, truths=truths, labels=["a", "b", "c"])
    pairs = [(truth, row.index(max(row))) for row, truth in rows]
    matrix = metrics["confusion_matrix"]["matrix"]
    assert matrix == [[pairs.count((truth, answer)) for answer in range(3)] for truth in range(3)]
    assert metrics["accuracy"] == pytest.approx(sum(matrix[n][n] for n in range(3)) / len(rows))
    assert math.isfinite(metrics["loss"])


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 1)), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
)
def test_metrics_are_what_counting_gives(rows: list[tuple[float, int]], threshold: float) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    truths = np.array([truth for _, truth in rows], np.int64)
    metrics = evaluation.binary(scores=scores, truths=truths, labels=LABELS, threshold=threshold)
    answers = [int(float(score) >= np.float32(threshold)) for score in scores]
    pairs = list(zip([truth for _, truth in rows], answers, strict=True))
    matrix = metrics["confusion_matrix"]["matrix"]
    assert matrix == [[pairs.count((truth, answer)) for answer in (0, 1)] for truth in (0, 1)]
    assert metrics["accuracy"] == pytest.approx((matrix[0][0] + matrix[1][1]) / len(rows))
    for index, label in enumerate(LABELS):
        of_class, answered = sum(matrix[index]), matrix[0][index] + matrix[1][index]
        assert metrics["classes"][label]["recall"] == (matrix[index][index] / of_class if of_class else None)
        assert metrics["classes"][label]["precision"] == (matrix[index][index] / answered if answered else None)
    assert math.isfinite(metrics["loss"])
