"""Sentences of one language into another: the recipe `translator`."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.recipes import rows
from modelhub.recipes.base import Interface, Manifest, Parameter
from modelhub.recipes.learning import Example, Learner, PathOf, Tensors
from modelhub.recipes.schedule import training_parameters
from modelhub.signatures import BYTES, DYNAMIC, Signature, TensorSpec
from modelhub.subwords import END, PAD, Subwords
from tenants.errors import FieldError, Invalid

if TYPE_CHECKING:
    from modelhub.datasets.manifests import Manifest as Content
    from modelhub.trainer.task import Item, Task

VOCABULARY = "vocabulary.model"
# As European languages in a vocabulary of thousands of pieces have it.
BYTES_A_PIECE = 3
HEAD_WIDTH = 64
# What a row of tokens is padded to; texts of about one length run together.
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

SIGNATURE = Signature(
    inputs=(TensorSpec("text", BYTES, (DYNAMIC,)),),
    outputs=(TensorSpec("translation", BYTES, (DYNAMIC,)), TensorSpec("score", "float32", (DYNAMIC,))),
)
ENGINE_SIGNATURE = Signature(
    inputs=(TensorSpec("tokens", "int32", (DYNAMIC, DYNAMIC)), TensorSpec("lengths", "int32", (DYNAMIC,))),
    outputs=(
        TensorSpec("tokens", "int32", (DYNAMIC, DYNAMIC)),
        TensorSpec("lengths", "int32", (DYNAMIC,)),
        TensorSpec("scores", "float32", (DYNAMIC,)),
    ),
)

OWN_PARAMETERS = (
    Parameter(
        "batch_tokens",
        "integer",
        "How many tokens a training step's sentences have together, in the longer of the two languages.",
        default=2048,
        minimum=64,
        maximum=65_536,
    ),
    Parameter(
        "vocabulary_size",
        "integer",
        "How many pieces of words the two languages share; 256 of them spell what no other does.",
        default=4000,
        minimum=300,
        maximum=32_000,
    ),
    Parameter(
        "max_tokens",
        "integer",
        "The longest sentence in pieces of words: longer pairs are left out, longer texts are refused.",
        default=200,
        minimum=8,
        maximum=500,
    ),
    Parameter("width", "integer", "The width of the states, a multiple of 64.", 256, minimum=64, maximum=1024),
    Parameter("hidden", "integer", "The width of the layers inside.", 1024, minimum=64, maximum=4096),
    Parameter("encoder_layers", "integer", "Layers that read the text.", 3, minimum=1, maximum=12),
    Parameter("decoder_layers", "integer", "Layers that write its translation.", 2, minimum=1, maximum=12),
    Parameter(
        "dropout", "number", "The share of values left out while training, against learning by heart.", 0.2, 0.0, 0.9
    ),
    Parameter(
        "label_smoothing", "number", "The share of probability given to all words alike while training.", 0.1, 0.0, 0.5
    ),
    Parameter(
        "beam", "integer", "How many translations are followed at a time; 1 is greedy.", 4, minimum=1, maximum=16
    ),
    Parameter(
        "length_penalty", "number", "How much longer translations are preferred; 0 prefers short ones.", 0.6, 0.0, 2.0
    ),
)
PARAMETERS = (
    *(
        parameter
        for parameter in training_parameters(
            epochs=20, learning_rate=0.001, schedule="cosine", warmup_steps=600, clip_norm=1.0
        )
        if parameter.name != "batch_size"
    ),
    *OWN_PARAMETERS,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation; `name` is where it stood in what was uploaded."""

    name: str
    source: str
    target: str
    group: str


def pairs(items: Iterable["Item"]) -> Iterator[Pair]:
    """The rows of the data set's files, in their order."""
    for row in rows.read(items):
        yield Pair(row["name"], row["source"], row["target"], row.get("group", ""))


class Translator:
    """Learns to translate from pairs of sentences."""

    name = "translator"
    title = "Texts into another language"
    dataset_kind = "translation"
    parameters: tuple[Parameter, ...] = PARAMETERS

    def check(self, content: "Content", parameters: Mapping[str, Any]) -> None:
        if parameters["width"] % HEAD_WIDTH:
            raise Invalid(
                f"The parameter width is {parameters['width']}; expected a multiple of {HEAD_WIDTH}.",
                errors=(FieldError("parameters.width", f"Expected a multiple of {HEAD_WIDTH}."),),
            )

    def learner(self, task: "Task") -> Learner:
        from modelhub.recipes.translation.learner import TranslationLearner

        return TranslationLearner(task)

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> "TranslationPipeline":
        subwords = Subwords(path_of(VOCABULARY).read_bytes())
        how = manifest["preprocessing"]
        return TranslationPipeline(subwords, max_tokens=how["max_tokens"], usual=how["usual"])

    def examples(self, items: Iterable["Item"]) -> Iterator[Example]:
        for pair in pairs(items):
            slices = {"group": pair.group} if pair.group else {}
            yield Example(inputs={"text": pair.source.encode()}, truth=pair.target, name=pair.name, slices=slices)

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]:
        return evaluation.bleu(list(truths), [text.decode() for text in outputs["translation"]])


def interface(*, max_tokens: int, beam: int, usual: str) -> Interface:
    """How a translator is spoken to; `usual` is a sentence of the length that most have, which hosts measure by."""
    return Interface(
        signature=SIGNATURE,
        preprocessing={"kind": "subwords", "file": VOCABULARY, "max_tokens": max_tokens, "usual": usual},
        labels=[],
        decision={"kind": "translation", "beam": beam},
    )


@runtime_checkable
class Stepwise(Protocol):
    """An engine that tells its outputs so far after each step, the last being what it would have given at once."""

    def steps(self, inputs: Tensors) -> Iterator[Tensors]: ...


class TranslationPipeline:
    """Texts to tokens and back."""

    content_types: tuple[str, ...] = ("text/plain",)

    def __init__(self, subwords: Subwords, *, max_tokens: int, usual: str) -> None:
        self._subwords = subwords
        self._max_tokens = max_tokens
        self._usual = usual

    def buckets(self, inputs: Tensors) -> int:
        """About the length that these texts are padded to, by their bytes: to find the pieces would not be cheap."""
        return padded_length(max(map(len, inputs["text"]), default=0) // BYTES_A_PIECE + 1)

    def encode(self, inputs: Tensors) -> Tensors:
        """Texts to tokens, each row ended by the end and padded; raises Invalid for what is empty, or too long."""
        rows = self._ids(inputs["text"])
        lengths = np.array([len(row) for row in rows], np.int32)
        return {"tokens": padded(rows, length=padded_length(int(lengths.max(initial=0)))), "lengths": lengths}

    def decode(self, outputs: Tensors) -> Tensors:
        rows = zip(outputs["tokens"], outputs["lengths"], strict=True)
        texts = self._subwords.texts([row[:length].tolist() for row, length in rows])
        translations = np.empty(len(texts), object)
        translations[:] = [text.encode() for text in texts]
        return {"translation": translations, "score": np.asarray(outputs["scores"], np.float32)}

    def sample(self, rows: int) -> Tensors:
        """A sentence of the usual length, so many times."""
        return {"text": np.array([self._usual.encode()] * rows, object)}

    def stream(self, inputs: Tensors, engine: object) -> Generator[dict[str, Any], None, Tensors]:
        """The best translation so far after each of its tokens; a later one may begin otherwise."""
        if not isinstance(engine, Stepwise):
            raise TypeError(f"A translation is streamed by an engine that goes step by step, not by {engine!r}.")
        outputs: Tensors = {}
        for outputs in engine.steps(self.encode(inputs)):
            yield self.answer(self.decode(outputs))
        return self.decode(outputs)

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        translation, score = (np.ravel(outputs[name])[0] for name in ("translation", "score"))
        return {"translation": translation.decode(), "score": round(float(score), 4)}

    def _ids(self, texts: NDArray[Any]) -> list[list[int]]:
        rows = self._subwords.ids([_text(raw) for raw in texts])
        for row in rows:
            row.append(END)
            if len(row) > self._max_tokens:
                raise Invalid(
                    f"The text is too long: it has {len(row)} pieces of words, at most {self._max_tokens} are "
                    "translated at a time. Send its sentences one by one."
                )
        return rows


def padded_length(longest: int) -> int:
    """The smallest bucket that so many tokens fit in."""
    return next((size for size in BUCKETS if size >= longest), longest)


def padded(rows: Sequence[Sequence[int] | NDArray[np.int32]], *, length: int) -> NDArray[np.int32]:
    """Rows of tokens as int32 (rows, length)."""
    tokens = np.full((len(rows), length), PAD, np.int32)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return tokens


def _text(raw: Any) -> str:
    try:
        text = bytes(raw).decode().strip()
    except UnicodeDecodeError as error:
        raise Invalid(f"The text is not UTF-8: {error}.") from error
    if not text:
        raise Invalid("The text is empty; expected a sentence.")
    return text
