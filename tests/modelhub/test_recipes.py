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
from modelhub.pictures import NotAPicture
from modelhub.recipes.base import Parameter, checked
from tenants.errors import Invalid
from tests.live import ROOT
from tests.modelhub import zips

RECIPE = recipes.get("image-classifier")
LABELS = ["cat", "dog"]
MANIFEST = {"labels": LABELS, "decision": {"kind": "binary", "threshold": 0.5}}


def test_the_recipes_import_no_tensorflow() -> None:
    code = "import sys, modelhub.recipes; assert not {'tensorflow', 'keras', 'django'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(Invalid, match="image-classifier"):
        recipes.get("text-classifier")


def test_parameters_that_are_left_out_have_their_defaults() -> None:
    assert checked(RECIPE.parameters, {"epochs": 7}) == {
        "architecture": "seed-cnn",
        "epochs": 7,
        "steps_per_epoch": None,
        "validation_steps": None,
        "seed": 0,
        "learning_rate": 0.001,
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "an integer from 1 to 200"),
        ("epochs", 201, "an integer from 1 to 200"),
        ("epochs", 1.0, "an integer from 1 to 200"),
        ("epochs", True, "an integer from 1 to 200"),
        ("epochs", None, "an integer from 1 to 200"),
        ("epochs", "5", "an integer from 1 to 200"),
        ("epochs", [1] * 100, "an integer from 1 to 200"),
        ("steps_per_epoch", 0, "an integer from 1 to 100000, or null"),
        ("learning_rate", math.nan, "a number from 1e-06 to 1"),
        ("learning_rate", 10**400, "a number from 1e-06 to 1"),
        ("architecture", "resnet", "one of seed-cnn"),
        ("architecture", {}, "one of seed-cnn"),
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


@pytest.mark.parametrize("classes", [[], ["cat"], ["a", "b", "c"]])
def test_other_than_two_classes_are_refused_in_words(classes: list[str]) -> None:
    with pytest.raises(Invalid, match=f"exactly two classes apart; the data set has {len(classes)}"):
        RECIPE.check_classes(classes)


def test_a_picture_is_prepared_as_it_was_for_training() -> None:
    data = zips.picture(1, height=90, width=200)
    prepared = np.empty((150, 150, 3), np.float32)
    RECIPE.served(MANIFEST).prepare(data, prepared)
    row = RECIPE.row(data, max_pixels=10**6)
    assert row.shape == (150, 150, 3)
    assert row.dtype == np.uint8
    # In the training graph rows are cast and scaled by TensorFlow: the same two float32 operations.
    assert np.array_equal(prepared, row.astype(np.float32) * RECIPE.scale)
    assert 0 <= prepared.min() < prepared.max() <= 1


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(NotAPicture):
        RECIPE.served(MANIFEST).prepare(b"not a picture", np.empty((150, 150, 3), np.float32))


@pytest.mark.parametrize(("score", "label"), [(0.0, "cat"), (0.4999, "cat"), (0.5, "dog"), (1.0, "dog")])
def test_a_score_becomes_the_label_it_speaks_for(score: float, label: str) -> None:
    answer = RECIPE.served(MANIFEST).answer({"score": np.array([score], np.float32)})
    assert answer["label"] == label
    assert answer["score"] == answer["scores"][label] >= 0.5
    assert list(answer["scores"]) == LABELS
    assert sum(answer["scores"].values()) == pytest.approx(1)


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
