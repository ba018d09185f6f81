"""From a model's probabilities to what was said: the text, how sure that is, and when each word was said."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelhub.recipes.speech import ctc, language
from modelhub.recipes.speech.ctc import LogProbabilities
from modelhub.recipes.speech.settings import STEP_SECONDS, Settings


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and the seconds from the beginning of the sound at which it begins and ends, to a fiftieth."""

    word: str
    start: float
    end: float

    def as_json(self) -> dict[str, Any]:
        return {"word": self.word, "start": self.start, "end": self.end}


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said. `confidence` is the probability of the text, by the model alone, as a mean of its words: 0 to 1.

    That is the root of the text's probability for as many as it has words, or the probability itself if it has none.
    """

    text: str
    confidence: float
    words: tuple[Word, ...]


class Decoder:
    """Decodes as the settings say; may be used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._language = None
        if settings.counts is not None:
            self._language = language.Words(
                settings.counts,
                alphabet=settings.alphabet,
                weight=settings.language_weight,
                bonus=float(np.exp(settings.word_bonus)),
            )

    def heard(self, log_probabilities: LogProbabilities) -> Heard:
        """float32 (steps, labels + 1), of one sound without padding."""
        if not len(log_probabilities):
            return Heard("", 1.0, ())
        labels = self.labels(log_probabilities)
        text = self._settings.text_of(labels)
        words = _words(text, ctc.align(log_probabilities, labels))
        likelihood = ctc.log_likelihood(log_probabilities, labels) / max(1, len(words))
        return Heard(text=" ".join(text.split()), confidence=float(np.exp(min(0.0, likelihood))), words=words)

    def labels(self, log_probabilities: LogProbabilities) -> list[int]:
        if self._settings.beam == 1 and self._language is None:
            return ctc.greedy(log_probabilities)
        return ctc.beam(log_probabilities, width=self._settings.beam, language=self._language)


def _words(text: str, spans: list[tuple[int, int]]) -> tuple[Word, ...]:
    found = []
    start = 0
    for part in text.split(" "):
        if part:
            first, last = spans[start][0], spans[start + len(part) - 1][1]
            found.append(Word(part, round(first * STEP_SECONDS, 2), round(last * STEP_SECONDS, 2)))
        start += len(part) + 1
    return tuple(found)
