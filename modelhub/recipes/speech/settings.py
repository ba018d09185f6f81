"""What a speech recognizer knows besides its weights: `settings.json`, a file of each version."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelhub import sounds
from modelhub.recipes.speech import features, language
from modelhub.recipes.speech.features import Frames

FILE = "settings.json"
STRIDE = 2  # frames a step of the model
STEP_SECONDS = STRIDE / features.FRAMES_A_SECOND
SHORTEST_BUCKET = 32


@dataclass(frozen=True, slots=True)
class Settings:
    """The alphabet, in the order of the model's labels; the norms of the features; and how to decode.

    `mean` and `deviation` are float32 (64,). `counts` are those of the training transcripts' words, where texts are
    made of these alone. `usual_seconds` is the median of the training sounds.
    """

    alphabet: str
    mean: Frames
    deviation: Frames
    beam: int
    language_weight: float
    word_bonus: float
    counts: language.Counts | None
    usual_seconds: float

    def seen(self, samples: sounds.Samples) -> Frames:
        """What the model sees of a sound: float32 (samples,) to (frames, 64), each band of mean 0 and deviation 1."""
        return self.normed(features.log_mel(samples))

    def normed(self, frames: Frames) -> Frames:
        found: Frames = (frames - self.mean) / self.deviation
        return found

    def labels_of(self, text: str) -> list[int]:
        """The labels of a normalised text; characters that are not in the alphabet are left out."""
        return [place for character in text if (place := self.alphabet.find(character)) >= 0]

    def text_of(self, labels: Sequence[int]) -> str:
        return "".join(self.alphabet[label] for label in labels)

    def write(self, path: Path) -> None:
        document = {
            "format": 1,
            "alphabet": self.alphabet,
            "mean": [round(float(value), 6) for value in self.mean],
            "deviation": [round(float(value), 6) for value in self.deviation],
            "beam": self.beam,
            "language_weight": self.language_weight,
            "word_bonus": self.word_bonus,
            "counts": self.counts.as_json() if self.counts else None,
            "usual_seconds": self.usual_seconds,
        }
        path.write_text(json.dumps(document, ensure_ascii=False))


def read(path: Path) -> Settings:
    """The settings that a version was written with."""
    document: dict[str, Any] = json.loads(path.read_text())
    return Settings(
        alphabet=document["alphabet"],
        mean=np.asarray(document["mean"], np.float32),
        deviation=np.asarray(document["deviation"], np.float32),
        beam=document["beam"],
        language_weight=document["language_weight"],
        word_bonus=document["word_bonus"],
        counts=language.counts_from_json(document["counts"]) if document["counts"] else None,
        usual_seconds=document["usual_seconds"],
    )


def steps_of(frames: int) -> int:
    """How many steps the model makes of so many frames."""
    return -(-frames // STRIDE)


def bucket(frames: int) -> int:
    """The number of frames that so many are padded to: 32, 48, 64, 96, 128, 192, 256, …"""
    size = SHORTEST_BUCKET
    while size < frames:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def padded(rows: Sequence[Frames], frames: int) -> Frames:
    """The rows, each (its frames, 64), as one float32 array (rows, frames, 64), zeros behind their ends."""
    found = np.zeros((len(rows), frames, features.MELS), np.float32)
    for place, row in zip(found, rows, strict=True):
        place[: len(row)] = row
    return found
