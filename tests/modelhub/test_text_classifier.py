"""The recipe `text-classifier`: what it reads, learns, writes and answers."""

import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub import recipes
from modelhub.datasets.manifests import Manifest
from modelhub.recipes import agreement
from modelhub.recipes.base import checked
from modelhub.recipes.text import model as text_model
from modelhub.recipes.text import texts, vocabularies
from modelhub.recipes.text.passes import Passes
from modelhub.trainer.task import Failure, Item
from tenants.errors import Invalid
from tests.modelhub import recipe_runs
from tests.modelhub.recipe_runs import Version

RECIPE: Any = recipes.get("text-classifier")
LABELS = ["complaint", "praise", "question"]
WORDS = {
    "complaint": ["broken", "late", "refund", "awful", "never", "lost"],
    "praise": ["great", "thanks", "lovely", "perfect", "happy", "best"],
    "question": ["when", "where", "how", "which", "why", "does"],
}
COMMON = ["the", "order", "my", "parcel", "it", "is", "and", "today"]
SMALL = {"embedding": 16, "units": 16, "features": 512, "vocabulary_size": 300, "epochs": 8, "batch_size": 16}


def drawn(rows: int, *, seed: int) -> list[dict[str, str]]:
    """Texts of common words and two of their label's own."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        label = LABELS[number % len(LABELS)]
        words = draw.sample(WORDS[label], 2) + draw.sample(COMMON, draw.randrange(1, 6))
        draw.shuffle(words)
        found.append({"text": " ".join(words), "label": label})
    return found


SPLITS: dict[str, list[dict[str, Any]]] = {"train": drawn(150, seed=1), "validation": drawn(30, seed=2)}


def learned(folder: Path, splits: dict[str, list[dict[str, Any]]] | None = None, **parameters: Any) -> Version:
    task = recipe_runs.task(
        "text-classifier", SMALL | parameters, splits=splits or SPLITS, folder=folder, labels=LABELS
    )
    return recipe_runs.trained(task, folder)


@pytest.fixture(scope="module", params=["cnn", "gru"])
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """One of each architecture, the GRU with whole words."""
    vocabulary = {"cnn": "subword", "gru": "word"}[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return learned(folder, architecture=request.param, vocabulary=vocabulary, learning_rate=0.01)


def test_what_can_be_learned_is_learned_and_answered(version: Version) -> None:
    assert version.result["metrics"]["accuracy"] == 1.0
    answer = version.answer({"text": recipe_runs.texts("My parcel is LATE and broken!")})
    assert answer["label"] == "complaint"
    assert answer["score"] == answer["scores"]["complaint"] == max(answer["scores"].values())
    assert list(answer["scores"]) == LABELS
    assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)


def test_the_same_metrics_come_of_the_served_answers(version: Version) -> None:
    items = [Item(file=str(version.folder / "validation.jsonl"), name="validation")]
    examples = list(RECIPE.examples(items))
    outputs = version.run({"text": recipe_runs.texts(*(one.inputs["text"] for one in examples))})
    found = RECIPE.assess(outputs, [one.truth for one in examples], manifest=version.result)
    said = version.result["metrics"]
    assert found["confusion_matrix"] == said["confusion_matrix"]
    assert found["loss"] == pytest.approx(said["loss"], abs=1e-4)
    assert examples[0].name == "validation:0"
    assert examples[0].slices == {"class": "complaint"}


def test_a_label_that_the_model_does_not_know_is_missed(version: Version) -> None:
    outputs = version.run({"text": recipe_runs.texts("thanks", "gibberish")})
    found = RECIPE.assess(outputs, ["praise", "spam"], manifest=version.result)
    assert found["classes"]["spam"]["recall"] == 0
    assert found["accuracy"] == 0.5


def test_neither_company_nor_padding_changes_an_answer(version: Version) -> None:
    rows = ["", "thanks", "where is it", "lovely " * 40, "why " * 400, "zażółć gęślą jaźń 🎉"]
    together = version.run({"text": recipe_runs.texts(*rows)})["scores"]
    for place, text in enumerate(rows):
        alone = version.run({"text": recipe_runs.texts(text)})["scores"][0]
        np.testing.assert_allclose(together[place], alone, atol=1e-5)


def test_what_was_never_seen_is_answered(version: Version) -> None:
    found = version.run({"text": recipe_runs.texts("", "   ", "☃", "Xyzzy plugh", "\0")})
    assert np.isfinite(found["scores"]).all()
    assert all(label.decode() in LABELS for label in found["label"])
    assert found["label"].shape == found["score"].shape == (5,)


def test_the_version_says_what_its_engine_takes(version: Version) -> None:
    serving, signature = version.result["serving"], version.result["signature"]
    assert [tensor["name"] for tensor in signature["inputs"]] == ["text"]
    assert [tensor["dtype"] for tensor in signature["outputs"]] == ["bytes", "float32", "float32"]
    encoded = version.pipeline.encode(version.pipeline.sample(3))  # type: ignore[attr-defined]
    assert {tensor["name"] for tensor in serving["tensors"]["inputs"]} == encoded.keys() == serving["typical"].keys()
    assert serving["candidates"] == [{"engine": "onnx", "file": "model.onnx"}]
    assert set(version.result["files"]) >= {"model.onnx", "settings.json"}
    assert all((version.folder / name).exists() for name in version.result["files"])


def test_a_text_that_is_not_utf8_is_refused_in_words(version: Version) -> None:
    with pytest.raises(Invalid, match="The text is not UTF-8"):
        version.pipeline.encode({"text": np.array([b"fine", b"\xff\xfe"], object)})


def test_long_texts_are_cut_and_it_is_said(tmp_path: Path) -> None:
    long = {"text": "thanks " * 2000, "label": "praise"}
    version = learned(
        tmp_path, {"train": [*SPLITS["train"], long], "validation": [*SPLITS["validation"], long]}, epochs=1
    )
    assert version.result["metrics"]["truncated_rows"] == 1
    assert any("1 texts of the train split are longer than 256 tokens" in line for line in version.log)
    assert version.pipeline.encode({"text": recipe_runs.texts(long["text"])})["tokens"].shape == (1, 256)
    assert version.pipeline.buckets({"text": recipe_runs.texts("thanks", long["text"])}) == 256
    assert version.pipeline.buckets({"text": recipe_runs.texts("thanks")}) == 8


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        {"text": None, "label": "praise"},
        {"text": "fine", "label": "Praise"},
        {"label": "praise"},
    ]
    version = learned(tmp_path, {"train": [*bad, *SPLITS["train"]], "validation": SPLITS["validation"]}, epochs=1)
    left_out = [line for line in version.log if line.startswith("Left out")]
    assert [line.split(":")[1] for line in left_out] == ["0", "1", "2"]
    assert "'Praise', which is none of the data set's classes" in left_out[1]


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ([], SPLITS["validation"], "No text is left to learn from"),
        ([{"text": " ", "label": "praise"}] * 5, SPLITS["validation"], "No text is left to learn from"),
        ([{"text": "thanks", "label": "praise"}] * 5, SPLITS["validation"], "5 usable rows.*all of the class praise"),
        (SPLITS["train"], [{"text": "thanks", "label": "other"}], "The validation split has no row that can be used"),
    ],
)
def test_too_little_to_learn_from_fails_in_words(
    tmp_path: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(Failure, match=message):
        learned(tmp_path, {"train": train, "validation": validation})


@pytest.mark.parametrize("classes", [(), ("ham",)])
def test_fewer_than_two_classes_are_refused(classes: tuple[str, ...]) -> None:
    content = Manifest(kind="text-classification", classes=classes, items=())
    with pytest.raises(Invalid, match=f"two or more classes apart; the data set has {len(classes)}"):
        RECIPE.check(content, checked(RECIPE.parameters, {}))


@pytest.mark.parametrize("features", [0, 50])
@pytest.mark.parametrize("architecture", ["cnn", "gru"])
def test_the_onnx_file_is_the_keras_model(tmp_path: Path, architecture: str, features: int) -> None:
    keras.utils.set_random_seed(1)
    parameters = checked(RECIPE.parameters, SMALL | {"architecture": architecture, "features": features})
    model = text_model.build(parameters, tokens=40, classes=3)
    for weight in model.weights:  # biases begin as zeros, which would hide where they are
        weight.assign(np.random.default_rng(0).normal(0, 0.3, weight.shape))
    text_model.write_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    draw = np.random.default_rng(2)
    tokens = draw.integers(1, 40, (5, 9), dtype=np.int32)
    for row, length in enumerate((1, 3, 9, 5, 2)):
        tokens[row, length:] = 0
    inputs = {"tokens": tokens} | ({"features": draw.integers(0, 50, (5, 7), dtype=np.int32)} if features else {})
    expected = np.asarray(model(list(inputs.values()), training=False))
    assert len({row.tobytes() for row in expected.round(4)}) == 5
    wider = {name: np.pad(tensor, ((0, 0), (0, 6))) for name, tensor in inputs.items()}
    for given_inputs in (inputs, wider):
        np.testing.assert_allclose(session.run(None, given_inputs)[0], expected, atol=1e-5)
        np.testing.assert_allclose(np.asarray(model(list(given_inputs.values()))), expected, atol=1e-5)


@pytest.mark.parametrize("difference", [1.1e-3, float("nan")])
def test_a_file_that_is_another_model_fails_the_job(difference: float) -> None:
    scores = np.full((2, 3), 0.3)
    with pytest.raises(Failure, match=r"model\.onnx differs by"):
        agreement.check(found=scores + difference, expected=scores, file="model.onnx")
    assert agreement.check(found=scores + 9e-4, expected=scores, file="model.onnx")["passed"] == ["model.onnx"]


def test_words_that_stand_once_or_never_are_unknown(tmp_path: Path) -> None:
    file = tmp_path / "words"
    vocabularies.learn(["The cat. the CAT", "a dog."], kind="word", size=100, file=file)
    words = vocabularies.load(file, kind="word")
    assert words.encode("the Cat saw a dog.") == [5, 4, 1, 1, 1, 3]
    assert words.size == 6
    assert words.encode("") == []


def test_a_vocabulary_is_the_same_for_the_same_texts(tmp_path: Path) -> None:
    rows = [row["text"] for row in SPLITS["train"]]
    for name in ("one", "other"):
        vocabularies.learn(rows, kind="subword", size=200, file=tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    pieces = vocabularies.load(tmp_path / "one", kind="subword")
    assert pieces.encode("The Parcel") == pieces.encode("the parcel") != []
    assert pieces.encode("☃")[-1] == vocabularies.UNKNOWN


def test_a_script_of_many_letters_has_a_vocabulary_that_holds_them(tmp_path: Path) -> None:
    letters = [chr(0x4E00 + number) for number in range(600)]
    vocabularies.learn(
        ["".join(letters[at : at + 6]) for at in range(594)], kind="subword", size=100, file=tmp_path / "v"
    )
    pieces = vocabularies.load(tmp_path / "v", kind="subword")
    assert vocabularies.UNKNOWN not in pieces.encode("".join(letters[:50]))


@given(st.text(max_size=60), st.integers(2, 1000))
def test_hashed_pieces_are_within_their_range_and_each_there_once(text: str, size: int) -> None:
    found = texts.hashed(text, size)
    assert found.tolist() == sorted(set(found.tolist()))
    assert all(1 <= number < size for number in found)


def test_capital_letters_tell_in_the_shapes_of_words_alone() -> None:
    small, capital = (set(texts.hashed(text, 1_000_003).tolist()) for text in ("call now", "CALL now"))
    assert len(small - capital) == len(capital - small) == 1
    assert len(small & capital) > 10


@given(st.integers(1, 60), st.integers(1, 17), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_each_pass_takes_each_row_once_and_can_be_taken_up_anywhere(
    rows: int, batch: int, steps: int, seed: int, sized: bool
) -> None:
    lengths = np.arange(rows) % 7 if sized else None
    passes = Passes(rows=rows, batch_size=batch, seed=seed, steps=steps, lengths=lengths)
    in_pass = passes.batches_a_pass
    batches = [places for epoch in range(1, 2 * in_pass + 1) for places in passes.epoch(epoch)][: 2 * in_pass]
    for whole in (batches[:in_pass], batches[in_pass:]):
        if len(whole) == in_pass:
            assert sorted(np.concatenate(whole).tolist()) == list(range(rows))
    for skip in range(steps + 1):
        assert [b.tolist() for b in passes.epoch(2, skip=skip)] == [b.tolist() for b in passes.epoch(2)][skip:]
