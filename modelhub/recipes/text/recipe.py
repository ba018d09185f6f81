"""Texts into classes: the recipe `text-classifier`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelhub.recipes import labelled, rows
from modelhub.recipes.base import Manifest, Parameter
from modelhub.recipes.learning import Example, Learner, PathOf, Tensors
from modelhub.recipes.schedule import training_parameters
from modelhub.recipes.text import texts, vocabularies
from tenants.errors import FieldError, Invalid

if TYPE_CHECKING:
    from modelhub.datasets.manifests import Manifest as Content
    from modelhub.trainer.task import Item, Task

SETTINGS_FILE = "settings.json"
ONNX_FILE = "model.onnx"
USUAL = "Could you tell me when my order from last week will arrive?"

PARAMETERS = (
    Parameter(
        "architecture",
        "choice",
        "What reads the tokens: convolutions, or a GRU in both directions, which is slower.",
        default="cnn",
        choices=("cnn", "gru"),
    ),
    Parameter(
        "vocabulary",
        "choice",
        "What a token is: a piece of a word, learned from the training texts, or a whole word.",
        default="subword",
        choices=("subword", "word"),
    ),
    Parameter("vocabulary_size", "integer", "The most tokens that are told apart.", 4000, minimum=100, maximum=100_000),
    Parameter(
        "features",
        "integer",
        "Into how many numbers pieces and pairs of words are hashed, to be weighed besides the tokens; 0 for none.",
        default=32_768,
        minimum=0,
        maximum=1_048_576,
    ),
    Parameter("embedding", "integer", "How many values a token or feature has.", 96, minimum=4, maximum=1024),
    Parameter(
        "units", "integer", "Filters of each width, or values of the GRU in a direction.", 96, minimum=4, maximum=1024
    ),
    Parameter("dropout", "number", "The share of values left out in training.", 0.5, minimum=0.0, maximum=0.9),
    Parameter(
        "word_dropout",
        "number",
        "The share of tokens and features that training takes for unknown or not there.",
        default=0.15,
        minimum=0.0,
        maximum=0.9,
    ),
    Parameter(
        "label_smoothing",
        "number",
        "How much of certainty training gives to all classes alike.",
        default=0.1,
        minimum=0.0,
        maximum=0.5,
    ),
    *training_parameters(
        classifier=True,
        epochs=16,
        batch_size=32,
        learning_rate=0.0015,
        schedule="cosine",
        clip_norm=1.0,
        early_stopping=6,
    ),
)


class TextClassifier:
    """Tells kinds of texts apart."""

    name = "text-classifier"
    title = "Texts into classes"
    dataset_kind = "text-classification"
    parameters: tuple[Parameter, ...] = PARAMETERS

    def check(self, content: "Content", parameters: Mapping[str, Any]) -> None:
        """Raises Invalid for a data set of fewer than two classes."""
        if len(content.classes) < 2:
            raise Invalid(
                f"The recipe {self.name} tells two or more classes apart; the data set has {len(content.classes)}: "
                f"{', '.join(content.classes) or 'none'}.",
                errors=(FieldError("dataset", "Expected a data set of two or more classes."),),
            )
        if parameters["features"] == 1:
            message = "Got 1; expected 0, or an integer from 2 on."
            raise Invalid(f"parameters.features: {message}", errors=(FieldError("parameters.features", message),))

    def learner(self, task: "Task") -> Learner:
        from modelhub.recipes.text.learner import TextLearner

        return TextLearner(task)

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> "TextPipeline":
        return TextPipeline(manifest, path_of)

    def examples(self, items: Iterable["Item"]) -> Iterator[Example]:
        for row in rows.read(items):
            slices = {"class": row["label"]} | ({"group": row["group"]} if row.get("group") else {})
            yield Example(inputs={"text": row["text"]}, truth=row["label"], name=row["name"], slices=slices)

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]:
        return labelled.assessed(outputs["scores"], truths, labels=manifest["labels"])


class TextPipeline:
    """Texts in; the likeliest label out, how sure the model is of it, and how likely it finds each."""

    content_types: tuple[str, ...] = ("text/plain",)

    def __init__(self, manifest: Manifest, path_of: PathOf) -> None:
        settings = json.loads(path_of(SETTINGS_FILE).read_text(encoding="utf-8"))
        vocabulary = vocabularies.load(path_of(settings["vocabulary_file"]), kind=settings["vocabulary"])
        self._encoder = texts.Encoder(vocabulary=vocabulary, features=settings["features"])
        self._labels: list[str] = list(manifest["labels"])

    def buckets(self, inputs: Tensors) -> int:
        """By the number of bytes; how many tokens there are shows only when they are encoded."""
        return texts.likely_bucket(max(map(len, inputs["text"].ravel()), default=0))

    def encode(self, inputs: Tensors) -> Tensors:
        """`text`, BYTES (rows,), to `tokens` and `features`, int32; an empty text is one. Raises Invalid."""
        return self._encoder.tensors([self._encoder.encode(_decoded(text)) for text in inputs["text"]])

    def decode(self, outputs: Tensors) -> Tensors:
        """`scores`, float32 (rows, classes), to those and the `label` and `score` of the likeliest."""
        return labelled.decoded(outputs["scores"], self._labels)

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        return labelled.answered(outputs, self._labels)

    def sample(self, rows: int) -> dict[str, NDArray[Any]]:
        return {"text": np.array([USUAL.encode()] * rows, object)}


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"The text is not UTF-8: {error}.") from error
