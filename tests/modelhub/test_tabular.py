"""The recipe `tabular`: what it makes of columns, learns, writes and answers."""

import math
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelhub import recipes
from modelhub.datasets.manifests import Column as ManifestColumn
from modelhub.datasets.manifests import Manifest
from modelhub.recipes.base import checked
from modelhub.recipes.tabular import columns, targets
from modelhub.recipes.tabular import model as tabular_model
from modelhub.trainer.task import Column, Failure, Item
from tenants.errors import Invalid
from tests.modelhub import recipe_runs
from tests.modelhub.recipe_runs import Version

RECIPE: Any = recipes.get("tabular")
COLUMNS = (
    Column("row", "integer"),
    Column("weight", "number"),
    Column("colour", "category"),
    Column("sold", "boolean"),
    Column("note", "text"),
    Column("ripe", "boolean"),
    Column("price", "number"),
)
SMALL = {"hidden_units": 32, "batch_size": 16, "learning_rate": 0.01, "epochs": 25}
WORTH = {"red": 3.0, "green": 0.0, "yellow": 1.0}


def drawn(rows: int, *, seed: int) -> list[dict[str, Any]]:
    """Fruit, whose ripeness follows from weight and colour, and its price too; some values are missing."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        weight, colour = draw.uniform(50, 150), draw.choice(list(WORTH))
        values = {
            "row": number + 1,
            "weight": None if draw.random() < 0.05 else weight,
            "colour": None if draw.random() < 0.05 else colour,
            "sold": draw.random() < 0.5,
            "note": f"note {number}",
            "ripe": weight / 50 + WORTH[colour] > 3,
            "price": 20 + weight / 10 + 2 * WORTH[colour],
        }
        found.append({"values": values})
    return found


SPLITS = {"train": drawn(300, seed=1), "validation": drawn(100, seed=2)}


def learned(
    folder: Path,
    target: str,
    *,
    splits: dict[str, list[dict[str, Any]]] | None = None,
    table: tuple[Column, ...] = COLUMNS,
    **parameters: Any,
) -> Version:
    given_parameters = SMALL | parameters | {"target": target}
    task = recipe_runs.task("tabular", given_parameters, splits=splits or SPLITS, folder=folder, columns=table)
    return recipe_runs.trained(task, folder)


@pytest.fixture(scope="module")
def ripe(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return learned(tmp_path_factory.mktemp("ripe"), "ripe")


@pytest.fixture(scope="module")
def price(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return learned(tmp_path_factory.mktemp("price"), "price", epochs=40)


def fruit(*rows: tuple[float, str]) -> dict[str, NDArray[Any]]:
    """The signature's inputs of a version that tells ripeness, of weights and colours."""
    count = len(rows)
    return {
        "weight": np.array([weight for weight, _ in rows], np.float32),
        "colour": recipe_runs.texts(*(colour for _, colour in rows)),
        "sold": np.zeros(count, np.float32),
        "price": np.array([20 + weight / 10 + 2 * WORTH.get(colour, 0.0) for weight, colour in rows], np.float32),
    }


def test_a_class_is_learned_and_answered(ripe: Version) -> None:
    assert ripe.result["metrics"]["accuracy"] > 0.9
    assert ripe.result["labels"] == ["false", "true"]
    heavy, light = (ripe.answer(fruit((weight, "yellow"))) for weight in (140, 60))
    assert (heavy["label"], light["label"]) == ("true", "false")
    assert heavy["score"] == heavy["scores"]["true"] > 0.5


def test_a_quantity_is_learned_and_answered_in_its_unit(price: Version) -> None:
    metrics = price.result["metrics"]
    assert metrics["r2"] > 0.9
    assert metrics["rows"] == 100
    inputs = {**fruit((100.0, "red")), "ripe": np.ones(1, np.float32)}
    answer = price.answer(inputs)
    assert answer.keys() == {"value"}
    assert answer["value"] == pytest.approx(36, abs=4)


def test_each_column_is_an_input_and_those_that_teach_nothing_are_left_out(ripe: Version) -> None:
    signature = ripe.result["signature"]
    found = {tensor["name"]: (tensor["dtype"], tensor["shape"]) for tensor in signature["inputs"]}
    assert found == {
        "weight": ("float32", [-1]),
        "sold": ("float32", [-1]),
        "price": ("float32", [-1]),
        "colour": ("bytes", [-1]),
    }
    assert [tensor["name"] for tensor in signature["outputs"]] == ["label", "score", "scores"]
    left_out = [line for line in ripe.log if "left out" in line]
    assert left_out == [
        "The column note is left out: it is free text.",
        "The column row is left out: its numbers name the rows.",
    ]


def test_missing_values_and_unknown_categories_are_answered_alone_as_in_company(ripe: Version) -> None:
    rows = [(100.0, "red"), (math.nan, "red"), (100.0, ""), (100.0, "mauve"), (math.inf, "ülm"), (1e30, "green")]
    together = ripe.run(fruit(*rows))
    assert np.isfinite(together["scores"]).all()
    assert together["label"].shape == together["score"].shape == (6,)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(ripe.run(fruit(row))["scores"][0], together["scores"][place], atol=1e-6)
    # None is how a null comes from a data set, where a category is empty in a request.
    inputs = fruit(rows[2])
    inputs["colour"][0] = None
    np.testing.assert_array_equal(ripe.run(inputs)["scores"][0], ripe.run(fruit(rows[2]))["scores"][0])


def test_a_category_that_is_not_utf8_is_refused_by_its_column(ripe: Version) -> None:
    inputs = fruit((1.0, "red"))
    inputs["colour"][0] = b"\xff"
    with pytest.raises(Invalid, match="The value of colour is not UTF-8"):
        ripe.run(inputs)


@pytest.mark.parametrize("which", ["ripe", "price"])
def test_the_same_metrics_come_of_the_served_answers(which: str, request: pytest.FixtureRequest) -> None:
    version: Version = request.getfixturevalue(which)
    examples = list(RECIPE.examples([Item(file=str(version.folder / "validation.jsonl"), name="validation")]))
    inputs: dict[str, NDArray[Any]] = {}
    for tensor in version.result["signature"]["inputs"]:
        values = [one.inputs[tensor["name"]] for one in examples]
        is_text = tensor["dtype"] == "bytes"
        inputs[tensor["name"]] = (
            recipe_runs.texts(*(v or "" for v in values)) if is_text else np.array(values, np.float32)
        )
    found = RECIPE.assess(version.run(inputs), [one.truth for one in examples], manifest=version.result)
    said = version.result["metrics"]
    assert found.keys() == said.keys()
    figure = "loss" if which == "ripe" else "rmse"
    assert found[figure] == pytest.approx(said[figure], rel=1e-3)
    assert examples[0].slices.keys() >= {"sold", "ripe", "note"}


def test_a_table_of_scikit_learns_is_learned(tmp_path: Path) -> None:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = list(map(str, data.feature_names))
    rows = [
        {"values": dict(zip([*names, "kind"], [*map(float, row), str(data.target_names[kind])], strict=True))}
        for row, kind in zip(data.data, data.target, strict=True)
    ]
    table = (*(Column(name, "number") for name in names), Column("kind", "category"))
    splits = {"train": rows[100:], "validation": rows[:100]}
    version = learned(tmp_path, "kind", splits=splits, table=table, epochs=10)
    assert version.result["labels"] == ["benign", "malignant"]
    assert version.result["metrics"]["accuracy"] > 0.9


def test_integers_of_few_values_are_classes_in_their_order_and_of_many_a_quantity() -> None:
    assert targets.learn("n", "integer", [10, 9, 2, 10, None], task="auto").labels == ("2", "9", "10")
    quantity = targets.learn("n", "integer", list(range(11)), task="auto")
    assert (quantity.labels, quantity.mean) == ((), 5.0)
    assert targets.learn("n", "number", [1.0, 2.5, 1.0], task="classification").labels == ("1", "2.5")
    assert targets.learn("n", "integer", [1, 2], task="regression").spread == 0.5


@pytest.mark.parametrize(
    ("kind", "values", "task", "message"),
    [
        ("category", ["a"] * 4 + [None], "auto", r"The target t never varies: it is 'a' in each of the 4 rows"),
        ("number", [2, 2.0, 2], "auto", "The target t never varies: it is '2'"),
        ("number", [], "auto", "No row to learn from has a value of the target t"),
        ("category", [None, ""], "auto", "No row to learn from has a value of the target t"),
        ("category", [f"name {n}" for n in range(40)], "auto", "40 different values in 40 rows"),
        ("number", [1e300, 2e300], "regression", "0 values that are numbers"),
    ],
)
def test_a_target_that_teaches_nothing_fails_in_words(kind: str, values: list[Any], task: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        targets.learn("t", kind, values, task=task)


def test_rows_without_a_target_are_named(tmp_path: Path) -> None:
    without: list[dict[str, Any]] = [
        {"values": SPLITS["train"][0]["values"] | {"colour": one}} for one in (None, "", "blue")
    ]
    version = learned(
        tmp_path, "colour", splits={"train": SPLITS["train"], "validation": [*without, *SPLITS["validation"]]}, epochs=1
    )
    named = [line for line in version.log if line.startswith("Left out validation:")]
    assert named[:3] == [
        "Left out validation:0: it has no value of the target colour.",
        "Left out validation:1: it has no value of the target colour.",
        "Left out validation:2: its colour is 'blue'; expected one of those in the rows to learn from.",
    ]


def test_a_table_without_a_column_to_learn_from_fails_in_words(tmp_path: Path) -> None:
    rows = [{"values": {"a": 1, "t": number % 2}} for number in range(20)]
    table = (Column("a", "number"), Column("t", "integer"))
    with pytest.raises(Failure, match="No column is left to tell t from"):
        learned(tmp_path, "t", splits={"train": rows, "validation": rows}, table=table)


@pytest.mark.parametrize(
    ("target", "task", "message"),
    [
        (None, "auto", "Got no target; expected one of the data set's columns: row, weight"),
        ("wieght", "auto", "Got the target 'wieght'; expected one of"),
        ("note", "auto", "The column note is free text"),
        ("colour", "regression", "is of the type category; a regression needs numbers"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_the_training(target: str | None, task: str, message: str) -> None:
    table = tuple(ManifestColumn(column.name, column.type) for column in COLUMNS)
    content = Manifest(kind="table", classes=(), items=(), columns=table)
    with pytest.raises(Invalid, match=message) as refused:
        RECIPE.check(content, checked(RECIPE.parameters, {"target": target, "task": task}))
    assert refused.value.errors[0].field == "parameters.target"
    RECIPE.check(content, checked(RECIPE.parameters, {"target": "price", "task": "regression"}))


def test_a_target_alone_in_its_table_is_refused() -> None:
    table = (ManifestColumn("t", "category"), ManifestColumn("words", "text"))
    content = Manifest(kind="table", classes=(), items=(), columns=table)
    with pytest.raises(Invalid, match="There is no column but t"):
        RECIPE.check(content, checked(RECIPE.parameters, {"target": "t"}))


LAYOUT = columns.Layout(
    numbers=(
        columns.NumberColumn("plain", 10.0, 3.0, logged=False, example=10.0),
        columns.NumberColumn("huge", 5.0, 2.0, logged=True, example=1e6),
    ),
    categories=(columns.CategoryColumn("one", 0, ("a", "b")), columns.CategoryColumn("two", 4, ("b", "c", "d"))),
)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    "layout",
    [LAYOUT, columns.Layout(LAYOUT.numbers, ()), columns.Layout((), LAYOUT.categories)],
    ids=["both", "numbers", "categories"],
)
def test_the_onnx_file_is_the_keras_model(tmp_path: Path, layout: columns.Layout, classes: int) -> None:
    keras.utils.set_random_seed(0)
    parameters = checked(RECIPE.parameters, SMALL)
    model = tabular_model.build(parameters, layout, classes=classes, spread=3.0, mean=50.0)
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).normal(0, 0.4, weight.shape))
    tabular_model.write_onnx(model, layout, tmp_path / "m.onnx", output="answers", classes=classes)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    draw = np.random.default_rng(1)
    numbers = np.array([[1, 2], [np.nan, -1e9], [1e30, np.nan], [0, 1e30], [-5, 0]], np.float32)
    categories = np.stack([draw.integers(0, 4, 5), draw.integers(4, 9, 5)], axis=1).astype(np.int32)
    every = {"numbers": numbers, "categories": categories}
    inputs = {name: every[name] for name in every if getattr(layout, name)}
    expected = np.asarray(model(list(inputs.values()), training=False))
    assert np.isfinite(expected).all()
    assert expected.std() > 0.01
    np.testing.assert_allclose(session.run(None, inputs)[0], expected, rtol=1e-4, atol=1e-5)


def test_rows_are_encoded_for_training_as_requests_are_for_serving() -> None:
    rows: list[dict[str, Any]] = [
        {"plain": 3, "huge": None, "one": "a", "two": "x"},
        {"plain": True, "huge": 1e300, "one": None, "two": "d"},
    ]
    found = columns.Encoder(LAYOUT).encode(LAYOUT.columns_of(rows))
    np.testing.assert_array_equal(found["numbers"], np.array([[3, np.nan], [1, np.nan]], np.float32))
    assert found["categories"].tolist() == [[2, 5], [0, 8]]
    assert columns.from_json(LAYOUT.as_json()) == LAYOUT


@given(st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-(10**9), 10**9)), min_size=3, max_size=50))
def test_numbers_are_standardised_or_their_column_is_left_out(values: list[float | int | None]) -> None:
    survey = columns.Survey({"n": "number"})
    for value in values:
        survey.see({"n": value})
    said: list[str] = []
    layout = survey.layout(said.append)
    there = columns.single([columns.number(value) for value in values])
    there = there[np.isfinite(there)]
    if not layout.numbers:
        assert len(said) == 1
        assert len(set(there)) < 2
        return
    (column,) = layout.numbers
    if column.logged:
        there = np.sign(there) * np.log1p(np.abs(there))
    scaled = (there - column.mean) / column.spread
    assert np.mean(scaled) == pytest.approx(0, abs=1e-4)
    assert np.std(scaled) == pytest.approx(1, abs=1e-4) or np.std(there) <= columns.NARROWEST


@pytest.mark.parametrize(
    ("name", "kind", "values", "reason"),
    [
        ("n", "number", [None, None, None], "no row has a value"),
        ("n", "number", [2, 2, 2], "it never varies"),
        ("c", "category", ["a", "a", "a"], "it never varies"),
        ("c", "category", [None, "", None], "no row has a value"),
        ("c", "category", [f"name {n}" for n in range(40)] * 2, None),
        ("c", "category", [f"name {n}" for n in range(40)], "as names or ids do"),
        ("customer id", "integer", [n * n for n in range(40)], "its numbers name the rows"),
        ("n", "integer", [n * n for n in range(40)], None),
        ("n", "integer", list(range(7, 47)), "its numbers name the rows"),
        ("n", "number", [2, None, 2], None),
    ],
)
def test_columns_that_teach_nothing_are_left_out_with_the_reason(
    name: str, kind: str, values: list[Any], reason: str | None
) -> None:
    survey = columns.Survey({name: kind})
    for value in values:
        survey.see({name: value})
    said: list[str] = []
    layout = survey.layout(said.append)
    assert len(layout.inputs) == (reason is None)
    assert [line for line in said if reason and reason in line and name in line] == said
