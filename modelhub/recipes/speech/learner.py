"""The speech recognizer at work in the training process: transcripts and sounds in, a model and its files out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.recipes.learning import Batch, Exported, Monitor
from modelhub.recipes.speech import augmentation, corpus, ctc, export, features, language, model, settings
from modelhub.recipes.speech.corpus import Corpus
from modelhub.recipes.speech.ctc import LogProbabilities
from modelhub.recipes.speech.decoding import Decoder
from modelhub.recipes.speech.settings import Settings
from modelhub.trainer.task import Failure, Reporter, Task

# Sounds of like length are learned together; how much their lengths are shaken before they are sorted.
SHAKEN = 0.15
VALIDATION_BATCH = 32
NAMED_ERRORS = 50


@dataclass(frozen=True, slots=True)
class Pass:
    """Every training sound once, in batches: the numbers of the sounds, and the speed of each."""

    batches: list[NDArray[np.int64]]
    speeds: NDArray[np.int64]


class SpeechLearner:
    """Learns to write down what is said, by connectionist temporal classification."""

    monitor = Monitor("val_word_error_rate", higher_is_better=False)
    steps_per_epoch: int
    # One graph for batches of all lengths: features, steps of each row, labels (-1 behind their end), a seed.
    batch_signature = (
        tf.TensorSpec((None, None, features.MELS), tf.float32),
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((2,), tf.int32),
    )

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parameters: Mapping[str, Any] = task.parameters
        change = self._parameters["speed_change"]
        self._speeds = (1.0, 1 - change, 1 + change) if change else (1.0,)
        self._settings: Settings
        self._train: Corpus
        self._validation: Corpus
        self._labels: list[list[int]]
        self._fitting: list[list[int]]
        self._pass: tuple[int, Pass] | None = None

    def read(self, *, folder: Path, report: Reporter) -> None:
        """Decodes both splits; alphabet, norms and words are of the training split, or of the version begun with."""
        self._train = corpus.read(
            self._task.train, split="train", file=folder / "train.float32", speeds=self._speeds, report=report
        )
        self._validation = corpus.read(
            self._task.validation, split="validation", file=folder / "validation.float32", speeds=(1.0,), report=report
        )
        for split, read, items in (
            ("train", self._train, self._task.train),
            ("validation", self._validation, self._task.validation),
        ):
            if not read.sounds:
                raise Failure(
                    f"The {split} split has no sound that can be learned from: all of its {len(items)} were left out. "
                    "The log says why of each."
                )
        before = self._task.warm_files.get(settings.FILE)
        self._settings = settings.read(Path(before)) if before else self._learned_settings()
        self._name_unknown(report)
        self._fit_labels(report)
        self.steps_per_epoch = self._parameters["steps_per_epoch"] or self._batches_in_pass

    def build(self) -> Any:
        return model.build(
            labels=len(self._settings.alphabet),
            filters=self._parameters["filters"],
            units=self._parameters["units"],
            layers=self._parameters["layers"],
        )

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Batch]:
        for number in range((epoch - 1) * self.steps_per_epoch + skip, epoch * self.steps_per_epoch):
            whole, place = divmod(number, self._batches_in_pass)
            if self._pass is None or self._pass[0] != whole:
                self._pass = whole, self._drawn_pass(whole)
            yield self._batch(self._pass[1], place, np.random.default_rng((self._task.parameters["seed"], 1, number)))

    def loss(self, model_: Any, batch: Batch) -> tuple[Any, Mapping[str, Any]]:
        frames, steps, labels, seed = batch
        logits = model.forward(model_, frames, steps, dropout=self._parameters["dropout"], seed=seed)
        loss = tf.reduce_mean(_ctc_loss(logits, steps, labels))
        return loss, {"rows": tf.cast(tf.shape(frames)[0], tf.float32)}

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {}

    def validate(self, model_: Any) -> dict[str, float]:
        rows = len(self._validation)
        if self._parameters["validation_steps"]:
            rows = min(rows, VALIDATION_BATCH * self._parameters["validation_steps"])
        found, losses = self._scored(model_, range(rows))
        heard = [self._settings.text_of(self._decoder.labels(one)) for one in found]
        rates = evaluation.word_error_rate([one.text for one in self._validation.sounds[:rows]], heard)
        return {
            "val_loss": float(np.mean(losses)),
            "val_word_error_rate": rates["word_error_rate"],
            "val_character_error_rate": rates["character_error_rate"],
        }

    def evaluate(self, model_: Any, *, report: Reporter) -> dict[str, Any]:
        spoken = self._validation.sounds
        found, losses = self._scored(model_, range(len(spoken)))
        heard = []
        for number, one in enumerate(found, start=1):
            heard.append(self._decoder.heard(one))
            report.progress("evaluating", number, len(found))
        texts, truths = [one.text for one in heard], [one.text for one in spoken]
        plain = [" ".join(self._settings.text_of(ctc.greedy(one)).split()) for one in found]
        return {
            **evaluation.word_error_rate(truths, texts, speakers=[one.speaker for one in spoken]),
            "loss": float(np.mean(losses)),
            "greedy_word_error_rate": evaluation.word_error_rate(truths, plain)["word_error_rate"],
            "errors": [
                {"name": one.name, "truth": one.text, "answer": answer.text, "confidence": round(answer.confidence, 4)}
                for one, answer in zip(spoken, heard, strict=True)
                if one.text != answer.text
            ][:NAMED_ERRORS],
        }

    def export(self, model_: Any, *, folder: Path, report: Reporter) -> Exported:
        export.write(model_, folder / export.FILE)
        self._settings.write(folder / settings.FILE)
        rows = range(len(self._validation))
        reference, _ = self._scored(model_, rows)
        exported = export.Session(folder / export.FILE)
        answers = []
        for number in rows:
            frames = self._settings.normed(self._validation.of(number))
            answers.append(exported.scored([frames])[0])
            report.progress("checking", number + 1, len(rows))
        return export.exported(reference, answers, decoder=self._decoder, usual_seconds=self._settings.usual_seconds)

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self._settings)

    def _learned_settings(self) -> Settings:
        texts = [one.text for one in self._train.sounds]
        mean, deviation = self._train.norms()
        words = {"words": True, "none": False, "auto": language.is_closed(texts)}[self._parameters["language"]]
        frames = [one.spans[0][1] for one in self._train.sounds]
        return Settings(
            alphabet=language.alphabet_of(texts),
            mean=mean,
            deviation=deviation,
            beam=self._parameters["beam"],
            language_weight=self._parameters["language_weight"],
            word_bonus=self._parameters["word_bonus"],
            counts=language.counted(texts) if words else None,
            usual_seconds=float(np.median(frames)) / features.FRAMES_A_SECOND,
        )

    def _name_unknown(self, report: Reporter) -> None:
        """Names what the model can never answer rightly."""
        for split in (self._train, self._validation):
            for one in split.sounds:
                if unknown := "".join(sorted(set(one.text) - set(self._settings.alphabet))):
                    report.log(f"{one.name}: no text of this model will have {unknown!r}, which its transcript has.")

    def _fit_labels(self, report: Reporter) -> None:
        """The labels of each training sound, and at which speeds it has steps enough for them."""
        self._labels = [self._settings.labels_of(one.text) for one in self._train.sounds]
        self._fitting = []
        for one, labels in zip(self._train.sounds, self._labels, strict=True):
            needed = ctc.steps_needed(labels)
            fitting = [speed for speed, (_, frames) in enumerate(one.spans) if settings.steps_of(frames) >= needed]
            if not fitting or not labels:
                report.log(
                    f"Left out {one.name}: {one.spans[0][1] / features.FRAMES_A_SECOND:.2f} seconds are too short for "
                    f"its transcript of {len(one.text)} characters."
                )
            self._fitting.append(fitting if labels else [])
        self._rows = np.asarray([number for number, fitting in enumerate(self._fitting) if fitting], np.int64)
        if not len(self._rows):
            raise Failure("Every sound of the train split is too short for its transcript; the log names each.")

    @property
    def _batches_in_pass(self) -> int:
        size: int = self._parameters["batch_size"]
        return math.ceil(len(self._rows) / size)

    def _drawn_pass(self, whole: int) -> Pass:
        """All rows once, each at a speed of its own, the like long together; a few twice, so that batches are full."""
        generator = np.random.default_rng((self._parameters["seed"], 0, whole))
        batches, size = self._batches_in_pass, min(self._parameters["batch_size"], len(self._rows))
        speeds = np.zeros(len(self._train), np.int64)
        for row in self._rows:
            speeds[row] = generator.choice(self._fitting[row])
        rows = np.concatenate([self._rows, generator.permutation(self._rows)[: batches * size - len(self._rows)]])
        frames = np.asarray([self._train.sounds[row].spans[speeds[row]][1] for row in rows])
        order = np.argsort(frames * generator.uniform(1 - SHAKEN, 1 + SHAKEN, len(rows)))
        found = [rows[order[start : start + size]] for start in range(0, len(rows), size)]
        return Pass(batches=[found[place] for place in generator.permutation(len(found))], speeds=speeds)

    def _batch(self, drawn: Pass, place: int, generator: np.random.Generator) -> Batch:
        rows = drawn.batches[place]
        found = [self._augmented(self._train.of(row, drawn.speeds[row]), generator) for row in rows]
        longest = max(len(one) for one in found)
        labels = _rows_of_labels([self._labels[row] for row in rows])
        steps = np.asarray([settings.steps_of(len(one)) for one in found], np.int32)
        seed = generator.integers(0, 2**31, 2).astype(np.int32)
        return settings.padded(found, longest), steps, labels, seed

    def _augmented(self, frames: features.Frames, generator: np.random.Generator) -> features.Frames:
        if loudest := self._parameters["noise"]:
            frames = augmentation.noisy(frames, loudest=loudest, generator=generator)
        frames = self._settings.normed(frames)
        augmentation.masked(
            frames,
            times=self._parameters["time_masks"],
            bands=self._parameters["frequency_masks"],
            generator=generator,
        )
        return frames

    def _scored(self, model_: Any, rows: Sequence[int]) -> tuple[list[LogProbabilities], NDArray[np.float32]]:
        """Of each validation sound the logarithms of the probabilities, (steps, labels + 1), and the loss."""
        found: dict[int, LogProbabilities] = {}
        losses = np.zeros(len(rows), np.float32)
        order = sorted(rows, key=lambda row: self._validation.sounds[row].spans[0][1])
        for start in range(0, len(order), VALIDATION_BATCH):
            batch = order[start : start + VALIDATION_BATCH]
            frames = [self._settings.normed(self._validation.of(row)) for row in batch]
            steps = np.asarray([settings.steps_of(len(one)) for one in frames], np.int32)
            labels = _rows_of_labels([self._settings.labels_of(self._validation.sounds[row].text) for row in batch])
            scores, loss = self._score(model_, settings.padded(frames, len(frames[-1])), steps, labels)
            losses[batch] = loss.numpy()
            for place, row in enumerate(batch):
                found[row] = scores.numpy()[: steps[place], place]
        return [found[row] for row in rows], losses

    def _score(self, model_: Any, frames: Any, steps: Any, labels: Any) -> Any:
        if self._scorer is None or self._scorer[0] is not model_:

            @tf.function(input_signature=self.batch_signature[:3], autograph=False)  # type: ignore[untyped-decorator]
            def score(frames: Any, steps: Any, labels: Any) -> Any:
                logits = model.forward(model_, frames, steps)
                return tf.nn.log_softmax(logits), _ctc_loss(logits, steps, labels)

            self._scorer = model_, score
        return self._scorer[1](frames, steps, labels)

    _scorer: tuple[Any, Any] | None = None


def _ctc_loss(logits: Any, steps: Any, labels: Any) -> Any:
    """Of each row, in nats; the logits are (steps, rows, labels + 1)."""
    places = tf.where(labels >= 0)
    values = tf.gather_nd(labels, places)
    sparse = tf.SparseTensor(places, values, tf.cast(tf.shape(labels), tf.int64))
    return tf.compat.v1.nn.ctc_loss(sparse, logits, steps, ignore_longer_outputs_than_inputs=True)


def _rows_of_labels(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    found = np.full((len(rows), max(1, *map(len, rows))), -1, np.int32)
    for place, row in zip(found, rows, strict=True):
        place[: len(row)] = row
    return found
