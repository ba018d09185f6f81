"""The recipe `translator`: it learns a small language, and its bundle translates as it learned."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from inference.engines.seq2seq import Seq2Seq
from modelhub import recipes, signatures, subwords
from modelhub.recipes.base import checked
from modelhub.recipes.translation import gate, recipe
from modelhub.recipes.translation import model as translation_model
from modelhub.recipes.translation.export import Sizes
from modelhub.recipes.translation.learner import BUNDLE, Split, TranslationLearner, batch_plan
from modelhub.recipes.translation.model import PAD, Transformer
from modelhub.recipes.translation.recipe import TranslationPipeline
from modelhub.subwords import END, START, Subwords
from modelhub.trainer import child
from modelhub.trainer.task import Failure, Item, Reporter, Task
from tenants.errors import Invalid

# TensorFlow's, where the trainer copies weights; in a training's own process it is no error.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

RECIPE = recipes.get("translator")
WORDS = {
    "one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "five": "cinco", "six": "seis", "seven": "siete",
    "eight": "ocho", "nine": "nueve", "ten": "diez", "and": "y", "or": "o",
}  # fmt: skip
SMALL = {
    "epochs": 10, "learning_rate": 0.004, "warmup_steps": 30, "batch_tokens": 384, "vocabulary_size": 340,
    "max_tokens": 30, "width": 64, "hidden": 128, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.05, "beam": 3,
}  # fmt: skip
Row = dict[str, str]


class Heard(Reporter):
    """Keeps what a trainer would be told."""

    def __init__(self) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY))
        self.epochs: list[dict[str, Any]] = []
        self.lines: list[str] = []

    def epoch(self, metrics: Any) -> None:
        self.epochs.append(dict(metrics))

    def log(self, text: str) -> None:
        self.lines.append(text)


def counted(rows: int, seed: int) -> list[Row]:
    """Numbers in words, one to six of them: as they are in either language."""
    random = np.random.default_rng(seed)
    drawn = [random.choice(list(WORDS), size=random.integers(1, 7)).tolist() for _ in range(rows)]
    return [{"source": " ".join(some), "target": " ".join(WORDS[word] for word in some)} for some in drawn]


def task(folder: Path, train: list[Row], validation: list[Row], **parameters: Any) -> Task:
    found = {}
    for split, rows in (("train", train), ("validation", validation)):
        path = folder / f"{split}.jsonl"
        lines = [json.dumps({"name": f"{split}.tsv:{n}", **row}, ensure_ascii=False) for n, row in enumerate(rows, 1)]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        found[split] = [Item(file=str(path), name=path.name, facts={"rows": len(rows)})]
    values = checked(RECIPE.parameters, SMALL | parameters)
    return Task("translator", values, "translation", [], [], found["train"], found["validation"], max_pixels=0)


def read(folder: Path, train: list[Row], validation: list[Row], **parameters: Any) -> tuple[TranslationLearner, Heard]:
    learner, heard = TranslationLearner(task(folder, train, validation, **parameters)), Heard()
    learner.read(folder=folder, report=heard)
    return learner, heard


class Trained(NamedTuple):
    folder: Path
    result: dict[str, Any]
    heard: Heard
    validation: list[Row]

    @property
    def pipeline(self) -> TranslationPipeline:
        found = RECIPE.pipeline(self.result, lambda name: self.folder / name)  # type: ignore[attr-defined]
        assert isinstance(found, TranslationPipeline)
        return found

    @property
    def engine(self) -> Seq2Seq:
        serving = self.result["serving"]
        return Seq2Seq(path=self.folder / serving["file"], signature=signatures.from_json(serving["tensors"]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training, as a job does it."""
    folder, heard, validation = tmp_path_factory.mktemp("trained"), Heard(), counted(60, seed=1)
    result = child.run(task(folder, counted(1500, seed=0), validation), folder=folder, report=heard)
    return Trained(folder, json.loads(json.dumps(result)), heard, validation)


def texts(*values: str | bytes) -> dict[str, NDArray[Any]]:
    tensor = np.empty(len(values), object)
    tensor[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return {"text": tensor}


def test_it_learns_to_count(trained: Trained) -> None:
    first, last = trained.heard.epochs[0], trained.heard.epochs[-1]
    assert last["loss"] < first["loss"] / 2
    assert last["val_loss"] < first["val_loss"] / 2
    assert last["val_token_accuracy"] > first["val_token_accuracy"]
    assert trained.result["metrics"]["bleu"] > 80
    assert trained.result["metrics"]["rows"] == len(trained.validation)


def test_what_is_served_is_what_was_evaluated(trained: Trained) -> None:
    given = texts(*(row["source"] for row in trained.validation))
    found = trained.pipeline.decode(trained.engine.run(trained.pipeline.encode(given)))
    served = [text.decode() for text in found["translation"]]
    examples = {one["source"]: one["translation"] for one in trained.result["metrics"]["examples"]}
    assert len(examples) > 10
    assert {source: examples[source] for source in examples} == {
        row["source"]: text for row, text in zip(trained.validation, served, strict=True) if row["source"] in examples
    }
    truths = [row["target"] for row in trained.validation]
    assessed = RECIPE.assess(found, truths, manifest=trained.result)
    assert assessed["bleu"] == pytest.approx(trained.result["metrics"]["bleu"])


def test_the_manifest_says_what_serving_needs(trained: Trained) -> None:
    assert set(trained.result["files"]) >= {BUNDLE, recipe.VOCABULARY}
    assert all((trained.folder / name).is_file() for name in trained.result["files"])
    assert trained.result["serving"]["engine"] == "seq2seq"
    assert trained.result["serving"]["typical"] == {"tokens": [8]}
    assert trained.result["conversion"]["files"][BUNDLE]["max_difference"] < 1e-4
    assert trained.result["conversion"]["files"][BUNDLE]["agreement"] == 1.0
    assert trained.pipeline.sample(2)["text"].shape == (2,)


def test_a_stream_ends_with_the_translation(trained: Trained) -> None:
    pipeline, engine = trained.pipeline, trained.engine
    steps = pipeline.stream(texts("one and two"), engine)
    answers = []
    while True:
        try:
            answers.append(next(steps))
        except StopIteration as end:
            outputs = end.value
            break
    assert len(answers) > 2
    assert answers[-1] == pipeline.answer(outputs) == {"translation": "uno y dos", "score": answers[-1]["score"]}
    expected = pipeline.decode(engine.run(pipeline.encode(texts("one and two"))))
    assert outputs["translation"].tolist() == expected["translation"].tolist()


def test_texts_of_one_request_are_translated_as_each_alone(trained: Trained) -> None:
    pipeline, engine = trained.pipeline, trained.engine
    given = ["one", "two or three and four or five", "  six \n"]
    together = pipeline.decode(engine.run(pipeline.encode(texts(*given))))
    for number, text in enumerate(given):
        alone = pipeline.decode(engine.run(pipeline.encode(texts(text))))
        assert alone["translation"][0] == together["translation"][number]
        assert alone["score"][0] == pytest.approx(together["score"][number], abs=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), (" \n", "is empty"), (b"\xff", "is not UTF-8"), ("one two " * 30, "at most 30 are translated")],
)
def test_a_text_that_cannot_be_translated_is_refused_in_words(trained: Trained, text: str | bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        trained.pipeline.encode(texts("one", text))


def test_texts_are_padded_to_few_lengths(trained: Trained) -> None:
    pipeline = trained.pipeline
    for text in ("one", "one two three four five six seven eight nine", "Unknown Words Are Spelled Out"):
        tokens = pipeline.encode(texts("one", text))["tokens"]
        assert len(tokens) == 2
        assert tokens.shape[1] in recipe.BUCKETS


def test_only_texts_of_about_one_length_run_together(trained: Trained) -> None:
    pipeline = trained.pipeline
    assert pipeline.buckets(texts("one two")) == pipeline.buckets(texts("", "two three")) == 8
    assert pipeline.buckets(texts("one", "one two three four five six seven eight nine")) == 16
    assert pipeline.buckets(texts("one two " * 100)) > 200  # refused by `encode`, not here


def test_a_bundle_of_other_weights_is_refused(trained: Trained) -> None:
    learner, _ = read(trained.folder, counted(40, seed=0), trained.validation)
    rows = [np.array([9, 10, 11, END], np.int32), np.array([12, END], np.int32)]
    model = learner.build()
    bundle = learner._written(model, trained.folder / "other.zip")
    gate.require(gate.compared(bundle, model, rows))
    model.decoder[0].cross_attention.query.bias.assign_add(np.full(64, 0.5, np.float32))
    with pytest.raises(Failure, match="does not agree with the trained model"):
        gate.require(gate.compared(bundle, model, rows))


def test_batches_repeat_themselves_and_go_on_where_they_were(tmp_path: Path) -> None:
    rows = counted(300, seed=2)
    (one, _), (other, _) = (read(tmp_path, rows, rows[:5], batch_tokens=256) for _ in range(2))
    batches = list(one.batches(epoch=3))
    assert len(batches) == one.steps_per_epoch > 5
    for batch, same in zip(batches[4:], other.batches(epoch=3, skip=4), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(batch, same, strict=True))
    seen = sorted(bytes(row[row != PAD]) for source, _, _ in batches for row in source)
    assert seen == sorted(bytes(row) for row in one._train.sources)
    assert all(max(source.size, target.size) <= 256 for source, target, _ in batches)
    assert len({seed.tobytes() for _, _, seed in batches}) == len(batches)
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(batches, one.batches(epoch=4), strict=True))


def test_the_loss_is_smoothed_cross_entropy() -> None:
    model = Transformer(Sizes(vocabulary=20, width=64, heads=1, hidden=64, encoder_layers=1, decoder_layers=1))
    source = np.array([[5, 6, 7, END], [8, END, PAD, PAD]], np.int32)
    target = np.array([[START, 9, 10, END], [START, 11, END, PAD]], np.int32)
    found, total, tokens = translation_model.loss(model, source, target, seed=None, smoothing=0.1)
    likely = tf.nn.log_softmax(model.logits(source, target[:, :-1])).numpy().reshape(-1, 20)
    truths = target[:, 1:].ravel()
    counted_ = truths != PAD
    nats = -likely[np.arange(len(truths)), truths]
    smoothed = 0.9 * nats - 0.1 * likely.mean(axis=1)
    assert float(tokens) == 5
    assert float(total) == pytest.approx(nats[counted_].sum(), rel=1e-5)
    assert float(found) == pytest.approx(smoothed[counted_].mean(), rel=1e-5)


def test_dropout_is_a_function_of_the_batchs_seed() -> None:
    model = Transformer(Sizes(vocabulary=20, width=64, heads=1, hidden=64, encoder_layers=1, decoder_layers=1))
    source, target = np.array([[5, 6, END]], np.int32), np.array([[START, 9, END]], np.int32)

    def states(seed: int | None) -> NDArray[np.float32]:
        how = translation_model.Pass(dropout=0.3, seed=None if seed is None else tf.constant([0, seed]))
        found: NDArray[np.float32] = model.states(source, target, how).numpy()
        return found

    assert np.array_equal(states(64), states(64))
    assert not np.allclose(states(64), states(128))
    assert not np.allclose(states(64), states(None))
    dropped = translation_model.Pass(dropout=0.25, seed=tf.constant([0, 1])).dropped(tf.ones((400, 64))).numpy()
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)


def test_pairs_that_teach_nothing_are_left_out_and_named(tmp_path: Path) -> None:
    odd = [{"source": "one", "target": " "}, {"source": "one " * 40, "target": "uno"}]
    learner, heard = read(tmp_path, [*counted(20, seed=0), *odd], counted(5, seed=1))
    assert len(learner._train) == 20
    assert "Left out train.tsv:21: a side is empty." in heard.lines
    assert any("1 pairs of train that are longer than 30" in line and "train.tsv:22" in line for line in heard.lines)


def test_a_split_without_pairs_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"The validation split has 1 pairs; at least 2"):
        read(tmp_path, counted(20, seed=0), counted(1, seed=0))


def test_going_on_from_a_version_keeps_its_vocabulary(tmp_path: Path) -> None:
    kept = tmp_path / "kept.model"
    kept.write_bytes(subwords.learn((row["target"] for row in counted(100, seed=5)), size=300))
    given = replace(task(tmp_path, counted(20, seed=0), counted(5, seed=1)), warm_files={"vocabulary.model": str(kept)})
    learner = TranslationLearner(given)
    learner.read(folder=tmp_path, report=Heard())
    assert (tmp_path / "vocabulary.model").read_bytes() == kept.read_bytes()


def test_batches_are_of_equal_lengths_as_far_as_possible() -> None:
    ones = [np.full(length, 9, np.int32) for length in (3, 9, 3, 9, 3, 30)]
    split = Split(sources=ones, targets=ones, references=[""] * 6)
    assert batch_plan(split, tokens=18) == [(0, 3), (3, 5), (5, 6)]


def test_a_width_that_is_no_multiple_of_64_is_refused() -> None:
    parameters = checked(RECIPE.parameters, {"width": 100})
    with pytest.raises(Invalid, match="a multiple of 64"):
        RECIPE.check(None, parameters)  # type: ignore[arg-type]


def test_every_text_comes_back_from_its_pieces() -> None:
    pieces = Subwords(subwords.learn((row["source"] for row in counted(100, seed=0)), size=300))
    given = ["one two", "¿Qué haces, 漢字 😀?", "Éléphant"]
    assert pieces.texts(pieces.ids(given)) == given
    assert subwords.UNKNOWN not in {one for row in pieces.ids(given) for one in row}


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(subwords.NoVocabulary, match="No vocabulary of 300 pieces"):
        subwords.learn([" ", "\n"], size=300)
    with pytest.raises(subwords.NoVocabulary, match="is no vocabulary"):
        Subwords(b"nonsense")
