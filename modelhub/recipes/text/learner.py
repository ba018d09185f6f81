"""A text classifier at work in the training process."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub import runners
from modelhub.recipes import agreement, labelled, rows
from modelhub.recipes.base import Interface
from modelhub.recipes.learning import Batch, Exported, Monitor
from modelhub.recipes.order import steps_of
from modelhub.recipes.schedule import class_weights
from modelhub.recipes.text import model as text_model
from modelhub.recipes.text import vocabularies
from modelhub.recipes.text.passes import Passes
from modelhub.recipes.text.ragged import Ragged
from modelhub.recipes.text.recipe import ONNX_FILE, SETTINGS_FILE
from modelhub.recipes.text.texts import BUCKETS, FEATURES_A_TOKEN, MAX_TOKENS, Encoded, Encoder, bucket
from modelhub.recipes.text.vocabularies import PADDING, UNKNOWN
from modelhub.signatures import BYTES, DYNAMIC, Signature, TensorSpec
from modelhub.trainer.task import Failure, Item, Reporter, Task

VALIDATION_BATCH = 128
# A vocabulary is learned from so many texts at most: more change it little.
VOCABULARY_TEXTS = 200_000
MOST_NAMED = 100
# Told apart from the seed of the order.
WORD_DROPOUT = 1


@dataclass(frozen=True, slots=True)
class Split:
    """The encoded texts of a split, the numbers of their labels, and how long each is."""

    tokens: Ragged
    features: Ragged
    labels: NDArray[np.int64]
    truncated: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """What a row's padding goes by: its tokens, or its features where they need more."""
        sizes = [
            max(len(self.tokens[row]), -(-len(self.features[row]) // FEATURES_A_TOKEN)) for row in range(len(self))
        ]
        return np.array(sizes, np.int64)

    def encoded(self, places: Sequence[int]) -> list[Encoded]:
        return [Encoded(self.tokens[row], self.features[row], truncated=False) for row in places]


class TextLearner:
    """Learns to tell the task's labels apart."""

    monitor = Monitor("val_macro_f1", higher_is_better=True)
    steps_per_epoch: int

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parameters = task.parameters
        self._scorer: tuple[Any, Any] = (None, None)

    # What is read

    def read(self, *, folder: Path, report: Reporter) -> None:
        self._vocabulary_file = self._vocabulary(folder, report)
        kind = self._parameters["vocabulary"]
        vocabulary = vocabularies.load(folder / self._vocabulary_file, kind=kind)
        self._encoder = Encoder(vocabulary=vocabulary, features=self._parameters["features"])
        report.log(f"The vocabulary has {vocabulary.size} {kind}s.")
        self._train, self._validation = (
            self._split(name, folder=folder, report=report) for name in ("train", "validation")
        )
        self._check_classes(report)
        parameters, count = self._parameters, len(self._train)
        self.steps_per_epoch = steps_of(
            count, batch_size=parameters["batch_size"], steps_per_epoch=parameters["steps_per_epoch"]
        )
        self._passes = Passes(
            rows=count,
            batch_size=parameters["batch_size"],
            seed=parameters["seed"],
            steps=self.steps_per_epoch,
            lengths=self._train.lengths,
        )
        self._weights = class_weights(
            self._train.labels, classes=len(self._task.labels), how=parameters["class_weights"]
        )
        self._order = np.argsort(self._validation.lengths, kind="stable")

    def _vocabulary(self, folder: Path, report: Reporter) -> str:
        """Learns the vocabulary from the training texts, or takes that of the version to begin with."""
        kind, files = self._parameters["vocabulary"], self._task.warm_files
        name = vocabularies.FILES[kind]
        if name in files:
            shutil.copyfile(files[name], folder / name)
            return name
        report.progress("vocabulary", 0, 1)
        texts = [
            row["text"] for row in islice(self._rows("train"), VOCABULARY_TEXTS) if isinstance(row.get("text"), str)
        ]
        if not any(text.strip() for text in texts):
            raise Failure("No text is left to learn from: the train split has none that is not empty.")
        vocabularies.learn(texts, kind=kind, size=self._parameters["vocabulary_size"], file=folder / name)
        return name

    def _rows(self, split: str) -> Iterator[rows.Row]:
        items: list[Item] = getattr(self._task, split)
        return rows.read(items)

    def _split(self, name: str, *, folder: Path, report: Reporter) -> Split:
        tokens, features = (Ragged(folder / f"{name}.{what}") for what in ("tokens", "features"))
        numbers = {label: place for place, label in enumerate(self._task.labels)}
        labels, truncated, left_out = [], 0, 0
        total = self._task.rows(name)
        with tokens.writing() as to_tokens, features.writing() as to_features:
            for row in self._rows(name):
                if problem := _problem(row, numbers):
                    left_out += 1
                    if left_out <= MOST_NAMED:
                        report.log(f"Left out {row['name']}: {problem}")
                    continue
                encoded = self._encoder.encode(row["text"])
                to_tokens.append(encoded.tokens)
                to_features.append(encoded.features)
                labels.append(numbers[row["label"]])
                truncated += encoded.truncated
                report.progress("encoding", len(labels), total, split=name)
        if left_out > MOST_NAMED:
            report.log(f"Left out {left_out} rows of the {name} split in all.")
        if truncated:
            report.log(
                f"{truncated} texts of the {name} split are longer than {MAX_TOKENS} tokens: their ends are cut."
            )
        return Split(tokens, features, np.array(labels, np.int64), truncated)

    def _check_classes(self, report: Reporter) -> None:
        """Raises Failure unless there are rows of two classes to learn from, and some to validate on."""
        counts = np.bincount(self._train.labels, minlength=len(self._task.labels))
        there = [label for label, count in zip(self._task.labels, counts, strict=True) if count]
        if len(there) < 2:
            raise Failure(
                f"There are {len(self._train)} usable rows to learn from, "
                f"{'all of the class ' + there[0] if there else 'of no class'}; at least two classes are needed."
            )
        if not len(self._validation):
            raise Failure("The validation split has no row that can be used. The log names those left out.")
        if missing := [label for label in self._task.labels if label not in there]:
            report.log(f"No row to learn from has the label {', '.join(missing[:20])}: it will never be answered.")

    # What is learned

    def build(self) -> Any:
        return text_model.build(self._parameters, tokens=self._encoder.vocabulary.size, classes=len(self._task.labels))

    @property
    def batch_signature(self) -> tuple[Any, ...]:
        """The tensors of a batch, of any size."""
        numbers = tf.TensorSpec((None, None), tf.int32)
        inputs = (numbers, numbers) if self._encoder.features else (numbers,)
        return (*inputs, tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,), tf.float32))

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Tokens, features, labels, weights; some of the first two left out, anew for each batch."""
        for number, places in enumerate(self._passes.epoch(epoch, skip=skip), skip):
            tensors = self._encoder.tensors(self._train.encoded(places.tolist()))
            draw = np.random.default_rng((self._parameters["seed"], WORD_DROPOUT, epoch, number))
            self._leave_out(tensors, draw)
            labels = self._train.labels[places]
            yield (*tensors.values(), labels, self._weights[labels])

    def _leave_out(self, tensors: dict[str, NDArray[np.int32]], draw: np.random.Generator) -> None:
        """Makes some tokens, but not the first, unknown, and some features padding."""
        share = self._parameters["word_dropout"]
        for name, instead in (("tokens", UNKNOWN), ("features", PADDING)):
            if name in tensors and share:
                numbers = tensors[name]
                chosen = draw.random(numbers.shape, np.float32) < share
                if name == "tokens":
                    chosen[:, 0] = False
                numbers[chosen & (numbers != PADDING)] = instead

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Mapping[str, Any]]:
        *inputs, labels, weights = batch
        scores = model(inputs, training=True)
        return labelled.loss_of(scores, labels, weights, smoothing=self._parameters["label_smoothing"])

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {"accuracy": sums["right"] / sums["rows"]}

    # How good it is

    def validate(self, model: Any) -> dict[str, float]:
        steps = self._parameters["validation_steps"]
        places = np.arange(len(self._validation))[: steps * self._parameters["batch_size"] if steps else None]
        scores = self._scores(model, self._order[np.isin(self._order, places)])
        return labelled.quick_metrics(scores[places], self._validation.labels[places], self._task.labels)

    def evaluate(self, model: Any, *, report: Reporter) -> dict[str, Any]:
        report.progress("evaluating", 0, len(self._validation))
        truths = [self._task.labels[label] for label in self._validation.labels]
        metrics = labelled.assessed(self._scores(model, self._order), truths, labels=self._task.labels)
        return metrics | {"truncated_rows": self._validation.truncated}

    def _scores(self, model: Any, order: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of the validation rows of these numbers, at their places; the others are 0."""
        score = self._score_of(model)
        return self._by_batches(order, lambda tensors: np.asarray(score(list(tensors.values()))))

    def _by_batches(self, order: NDArray[np.int64], score: Any) -> NDArray[np.float32]:
        scores = np.zeros((len(self._validation), len(self._task.labels)), np.float32)
        for at in range(0, len(order), VALIDATION_BATCH):
            places = order[at : at + VALIDATION_BATCH]
            scores[places] = score(self._encoder.tensors(self._validation.encoded(places.tolist())))
        return scores

    def _score_of(self, model: Any) -> Any:
        """The model as one graph for inputs of any size."""
        if self._scorer[0] is not model:
            inputs = list(self.batch_signature[:-2])

            @tf.function(input_signature=[inputs], autograph=False)  # type: ignore[untyped-decorator]
            def score(tensors: Any) -> Any:
                return model(tensors, training=False)

            self._scorer = (model, score)
        return self._scorer[1]

    # What is served

    def export(self, model: Any, *, folder: Path, report: Reporter) -> Exported:
        report.progress("converting", 0, 1)
        text_model.write_onnx(model, folder / ONNX_FILE)
        (folder / SETTINGS_FILE).write_text(json.dumps(self._settings()), encoding="utf-8")
        candidate = {"engine": "onnx", "file": ONNX_FILE}
        serving = {**candidate, "candidates": [candidate], "tensors": self._tensors().as_json()}
        report.progress("checking", 0, len(self._validation))
        run = runners.open({"serving": serving}, folder.joinpath)
        found = self._by_batches(self._order, lambda tensors: run(tensors)["scores"])
        conversion = agreement.check(found=found, expected=self._scores(model, self._order), file=ONNX_FILE)
        return Exported(
            files=[ONNX_FILE, SETTINGS_FILE, self._vocabulary_file],
            serving=serving | {"typical": self._typical()},
            interface=self._interface(),
            conversion=conversion,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "vocabulary": self._parameters["vocabulary"],
            "vocabulary_file": self._vocabulary_file,
            "features": self._parameters["features"],
        }

    def _tensors(self) -> Signature:
        names = ("tokens", "features") if self._encoder.features else ("tokens",)
        return Signature(
            inputs=tuple(TensorSpec(name, "int32", (DYNAMIC, DYNAMIC)) for name in names),
            outputs=(TensorSpec("scores", "float32", (DYNAMIC, len(self._task.labels))),),
        )

    def _typical(self) -> dict[str, list[int]]:
        usual = bucket(int(np.median(self._validation.lengths)))
        sizes = {"tokens": [usual], "features": [usual * FEATURES_A_TOKEN]}
        return {spec.name: sizes[spec.name] for spec in self._tensors().inputs}

    def _interface(self) -> Interface:
        return Interface(
            signature=Signature(
                inputs=(TensorSpec("text", BYTES, (DYNAMIC,)),), outputs=labelled.outputs_of(self._task.labels)
            ),
            preprocessing={"kind": "text", "max_tokens": MAX_TOKENS, "buckets": list(BUCKETS), **self._settings()},
            labels=list(self._task.labels),
            decision={"kind": "argmax"},
        )


def _problem(row: rows.Row, numbers: Mapping[str, int]) -> str:
    """Why a row cannot be used, or nothing."""
    if not isinstance(row.get("text"), str):
        return f"its text is {row.get('text')!r:.60}; expected a text."
    if row.get("label") not in numbers:
        return f"its label is {row.get('label')!r:.60}, which is none of the data set's classes."
    return ""
