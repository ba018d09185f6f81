"""The translator at work in the training process: pairs to tokens, batches of one length, validation by translating."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.recipes.learning import Batch, Exported, Monitor
from modelhub.recipes.translation import export, gate, recipe
from modelhub.recipes.translation import model as translation_model
from modelhub.recipes.translation.export import Sizes
from modelhub.recipes.translation.model import Transformer
from modelhub.recipes.translation.recipe import ENGINE_SIGNATURE, HEAD_WIDTH, VOCABULARY, Pair
from modelhub.seq2seq import Bundle, Settings
from modelhub.subwords import END, PAD, START, UNKNOWN, NoVocabulary, Subwords, learn
from modelhub.trainer.task import Failure

if TYPE_CHECKING:
    from modelhub.trainer.task import Item, Reporter, Task

BUNDLE, SMALL_BUNDLE = "model.seq2seq.zip", "model.int8.seq2seq.zip"
TOKENS = tf.TensorSpec((None, None), tf.int32)
SEED = tf.TensorSpec((2,), tf.int32)
# Translated after each epoch, greedily, so that the best epoch is the one that translates best.
QUICK_ROWS = 500
# Translated by the beam at the end, and compared between the files for serving.
FULL_ROWS = 2000
FEWEST_PAIRS = 2
TRANSLATED_AT_ONCE = 64
THREADS = 2

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs as tokens: sources with the end behind them, targets between start and end."""

    sources: list[Ids]
    targets: list[Ids]
    references: list[str]

    def __len__(self) -> int:
        return len(self.sources)


class TranslationLearner:
    """Learns from a task's pairs; a batch is (source, target, seed of its dropout), of about as many tokens each."""

    monitor = Monitor("val_bleu", higher_is_better=True)
    batch_signature = (TOKENS, TOKENS, SEED)
    steps_per_epoch: int

    def __init__(self, task: "Task") -> None:
        self._task = task
        self._parameters = task.parameters
        self._folder = Path()

    def read(self, *, folder: Path, report: "Reporter") -> None:
        """Learns the vocabulary from train alone (or takes that of the version it goes on from), and encodes."""
        self._folder = folder
        train = _pairs(self._task.train, split="train", report=report)
        validation = _pairs(self._task.validation, split="validation", report=report)
        report.progress("vocabulary", 0, 1)
        (folder / VOCABULARY).write_bytes(self._vocabulary(train))
        self._subwords = Subwords((folder / VOCABULARY).read_bytes())
        self._train = self._encoded(train, split="train", report=report)
        self._validation = self._encoded(validation, split="validation", report=report)
        self._plan = batch_plan(self._train, tokens=self._parameters["batch_tokens"])
        self.steps_per_epoch = self._parameters["steps_per_epoch"] or len(self._plan)
        self._sizes = Sizes(
            vocabulary=len(self._subwords),
            width=self._parameters["width"],
            heads=self._parameters["width"] // HEAD_WIDTH,
            hidden=self._parameters["hidden"],
            encoder_layers=self._parameters["encoder_layers"],
            decoder_layers=self._parameters["decoder_layers"],
        )

    def build(self) -> Transformer:
        return Transformer(self._sizes, dropout=self._parameters["dropout"])

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of neighbours by length, in an order of their own each epoch; what is in them is drawn anew, too."""
        random = np.random.default_rng([self._parameters["seed"], epoch])
        order = _by_length(self._train, ties=random.permutation(len(self._train)))
        chosen = random.permutation(len(self._plan))
        # Fewer steps than batches go on with the next ones in the next epoch's own order; more begin again.
        for step in range(skip, self.steps_per_epoch):
            first, last = self._plan[chosen[step % len(chosen)]]
            places = order[first:last]
            yield (
                _together([self._train.sources[place] for place in places]),
                _together([self._train.targets[place] for place in places]),
                np.array([self._parameters["seed"], (epoch << 20) + (step << 6)], np.int32),
            )

    def loss(self, model: Transformer, batch: Batch) -> tuple[Any, Mapping[str, Any]]:
        source, target, seed = batch
        mean, total, tokens = translation_model.loss(
            model, source, target, seed=seed, smoothing=self._parameters["label_smoothing"]
        )
        return mean, {"rows": tf.cast(tf.shape(source)[0], tf.float32), "tokens": tokens, "nats": total}

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {"perplexity": float(np.exp(min(sums["nats"] / sums["tokens"], 50.0)))}

    def validate(self, model: Transformer) -> dict[str, float]:
        """Loss in nats a token, share of tokens that are the likeliest, and BLEU of greedy translations of some."""
        steps = self._parameters["validation_steps"]
        nats, right, tokens = self._forced(model, steps)
        quick = _spread(len(self._validation), QUICK_ROWS)
        bundle = self._written(model, self._folder / "quick.seq2seq.zip", beam=1)
        return {
            "val_loss": nats / tokens,
            "val_token_accuracy": right / tokens,
            "val_bleu": self._bleu(self._translated(bundle, quick), quick)["bleu"],
        }

    def evaluate(self, model: Transformer, *, report: "Reporter") -> dict[str, Any]:
        """Loss, and BLEU and chrF of what the beam finds; with the first translations as examples."""
        nats, right, tokens = self._forced(model, None)
        places = _spread(len(self._validation), FULL_ROWS)
        bundle = self._written(model, self._folder / BUNDLE)
        texts = self._translated(bundle, places, report=report)
        examples = [
            {
                "source": self._subwords.texts([self._validation.sources[place].tolist()])[0],
                "reference": self._validation.references[place],
                "translation": text,
            }
            for place, text in list(zip(places, texts, strict=True))[:20]
        ]
        scores = {"loss": nats / tokens, "token_accuracy": right / tokens, "rows_of_loss": len(self._validation)}
        return {**self._bleu(texts, places), **scores, "examples": examples}

    def export(self, model: Transformer, *, folder: Path, report: "Reporter") -> Exported:
        """Writes the vocabulary and the bundle, which must score its translations as the trained model does."""
        places = _spread(len(self._validation), gate.ROWS)
        bundle = self._written(model, folder / BUNDLE)
        report.progress("checking", 0, len(places))
        sources = [self._validation.sources[place] for place in places]
        conversion = gate.compared(bundle, model, sources)
        gate.require(conversion)
        (folder / VOCABULARY).write_bytes((self._folder / VOCABULARY).read_bytes())
        (folder / "quick.seq2seq.zip").unlink(missing_ok=True)
        lengths = [len(one) for one in self._validation.sources]
        usual = self._validation.sources[int(np.argsort(lengths, kind="stable")[len(lengths) // 2])]
        first = {"engine": "seq2seq", "file": BUNDLE}
        return Exported(
            files=[BUNDLE, VOCABULARY],
            serving={
                **first,
                "candidates": [first],
                "tensors": ENGINE_SIGNATURE.as_json(),
                "typical": {"tokens": [recipe.padded_length(len(usual))]},
            },
            interface=recipe.interface(
                max_tokens=self._parameters["max_tokens"],
                beam=self._parameters["beam"],
                usual=self._subwords.texts([usual.tolist()])[0],
            ),
            conversion={"passed": [BUNDLE], "served": BUNDLE, "files": {BUNDLE: conversion}},
        )

    def _vocabulary(self, train: Sequence[Pair]) -> bytes:
        if VOCABULARY in self._task.warm_files:
            return Path(self._task.warm_files[VOCABULARY]).read_bytes()
        try:
            return learn(
                (text for pair in train for text in (pair.source, pair.target)),
                size=self._parameters["vocabulary_size"],
            )
        except NoVocabulary as error:
            raise Failure(f"{error}. More text, or a larger vocabulary_size, may help.") from error

    def _encoded(self, pairs: Sequence[Pair], *, split: str, report: "Reporter") -> Split:
        """The pairs as tokens; those with a longer side than `max_tokens` are left out, with a line for the first."""
        most = self._parameters["max_tokens"]
        sources = self._subwords.ids([pair.source for pair in pairs])
        targets = self._subwords.ids([pair.target for pair in pairs])
        kept = [n for n in range(len(pairs)) if len(sources[n]) < most and len(targets[n]) < most]
        if left_out := sorted(set(range(len(pairs))) - set(kept)):
            first = pairs[left_out[0]]
            report.log(
                f"Left out {len(left_out)} pairs of {split} that are longer than {most} pieces of words, "
                f"the first of them {first.name}."
            )
        if len(kept) < FEWEST_PAIRS:
            raise Failure(
                f"The {split} split has {len(kept)} pairs of at most {most} pieces of words, of {len(pairs)} in all; "
                f"at least {FEWEST_PAIRS} are needed."
            )
        return Split(
            sources=[np.array([*sources[n], END], np.int32) for n in kept],
            targets=[np.array([START, *targets[n], END], np.int32) for n in kept],
            references=[pairs[n].target for n in kept],
        )

    def _settings(self, *, beam: int) -> Settings:
        return Settings(
            vocabulary=self._sizes.vocabulary,
            layers=self._sizes.decoder_layers,
            heads=self._sizes.heads,
            head_width=self._sizes.head_width,
            pad=PAD,
            start=START,
            end=END,
            beam=beam,
            max_length=min(export.MAX_POSITIONS, 2 * self._parameters["max_tokens"]),
            length_penalty=self._parameters["length_penalty"],
        )

    def _written(self, model: Transformer, path: Path, *, beam: int | None = None) -> Bundle:
        """Writes the model as a bundle, and opens it."""
        weights = model.arrays()
        export.write_bundle(
            path,
            encoder=export.encoder_graph(weights, self._sizes),
            decoder=export.decoder_graph(weights, self._sizes, banned=(PAD, START, UNKNOWN)),
            settings=self._settings(beam=beam or self._parameters["beam"]),
        )
        return Bundle(path, threads=THREADS)

    def _translated(self, bundle: Bundle, places: Sequence[int], *, report: "Reporter | None" = None) -> list[str]:
        """The translations of the validation pairs at these places."""
        order = sorted(range(len(places)), key=lambda n: len(self._validation.sources[places[n]]))
        texts = [""] * len(places)
        for first in range(0, len(order), TRANSLATED_AT_ONCE):
            some = order[first : first + TRANSLATED_AT_ONCE]
            rows = [self._validation.sources[places[n]] for n in some]
            found = bundle.translate(_together(rows), np.array([len(row) for row in rows], np.int32))
            ids = [row[:length].tolist() for row, length in zip(found.tokens, found.lengths, strict=True)]
            for n, text in zip(some, self._subwords.texts(ids), strict=True):
                texts[n] = text
            if report:
                report.progress("evaluating", first + len(some), len(order))
        return texts

    def _bleu(self, texts: list[str], places: Sequence[int]) -> dict[str, Any]:
        return evaluation.bleu([self._validation.references[place] for place in places], texts)

    def _forced(self, model: Transformer, steps: int | None) -> tuple[float, float, float]:
        """Of the validation split, or its first batches: nats, tokens that are the likeliest, and tokens."""
        measured = self._measuring(model)
        order = _by_length(self._validation, ties=np.arange(len(self._validation)))
        plan = batch_plan(self._validation, tokens=self._parameters["batch_tokens"])
        totals = np.zeros(3)
        for first, last in plan[: steps or len(plan)]:
            places = order[first:last]
            source = _together([self._validation.sources[place] for place in places])
            target = _together([self._validation.targets[place] for place in places])
            totals += [float(one) for one in measured(source, target)]
        return float(totals[0]), float(totals[1]), float(totals[2])

    @cache  # noqa: B019 - one learner and one model live as long as the process
    def _measuring(self, model: Transformer) -> Any:
        """What is measured of a batch, traced once."""
        return tf.function(
            lambda source, target: translation_model.measured(model, source, target),
            input_signature=(TOKENS, TOKENS),
            autograph=False,
        )


def batch_plan(split: Split, *, tokens: int) -> list[tuple[int, int]]:
    """Where the batches begin and end when pairs are sorted by length: of at most so many tokens, padding counted.

    The sorted lengths are the same in every order of equally long pairs, so that each epoch has these batches.
    """
    order = _by_length(split, ties=np.arange(len(split)))
    longest = np.array([max(len(split.sources[n]), len(split.targets[n])) for n in order])
    plan, first, width = [], 0, 0
    for place, length in enumerate(longest):
        width = max(width, int(length))
        if place > first and width * (place - first + 1) > tokens:
            plan.append((first, place))
            first, width = place, int(length)
    return [*plan, (first, len(order))]


def _by_length(split: Split, *, ties: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs' places, the shortest targets first, of these the shortest sources; else in the order of `ties`."""
    sources = np.array([len(one) for one in split.sources])
    targets = np.array([len(one) for one in split.targets])
    return np.lexsort((ties, sources, targets))


def _together(rows: Sequence[Ids]) -> Ids:
    return recipe.padded(rows, length=max(map(len, rows)))


def _spread(count: int, most: int) -> list[int]:
    """At most so many places, evenly spread."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most))]


def _pairs(items: Sequence["Item"], *, split: str, report: "Reporter") -> list[Pair]:
    """The split's pairs with something on both sides; others are left out and named."""
    found = []
    for pair in recipe.pairs(items):
        if pair.source.strip() and pair.target.strip():
            found.append(replace(pair, source=pair.source.strip(), target=pair.target.strip()))
        else:
            report.log(f"Left out {pair.name}: a side is empty.")
    if len(found) < FEWEST_PAIRS:
        raise Failure(f"The {split} split has {len(found)} pairs; at least {FEWEST_PAIRS} are needed.")
    return found
