"""Sounds and transcripts that the tests of the speech recognizer make themselves, and its task without a trainer."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from modelhub.recipes.base import checked
from modelhub.recipes.speech import SpeechRecognizer
from modelhub.recipes.speech.features import Frames
from modelhub.trainer.task import Item, Reporter, Task

# Each word is two tones, one after the other, in hertz.
TONES = {"do": (400, 700), "re": (1100, 500), "mi": (2000, 3000)}


def sound(text: str, *, seed: int = 0, rate: int = 16_000) -> Frames:
    """The words of a text as tones, 0.3 s each, a little different for each seed; float32 (samples,)."""
    generator = np.random.default_rng(seed)
    parts = [np.zeros(rate // 20)]
    for word in text.split():
        for hertz in TONES[word]:
            time = np.arange(round(rate * 0.12 * generator.uniform(0.9, 1.1))) / rate
            parts.append(0.3 * np.sin(2 * np.pi * hertz * generator.uniform(0.97, 1.03) * time))
        parts.append(np.zeros(rate // 16))
    samples = np.concatenate(parts)
    return (samples + generator.normal(0, 0.003, len(samples))).astype(np.float32)


def items(folder: Path, texts: list[str], *, seed: int = 0) -> list[Item]:
    """Files of these texts, written into the folder."""
    folder.mkdir(exist_ok=True)
    found = []
    for number, text in enumerate(texts):
        file = folder / f"{number}.wav"
        soundfile.write(file, sound(text, seed=seed + number), 16_000)
        found.append(Item(file=str(file), name=file.name, target=text, group=f"speaker {number % 2}"))
    return found


def task(folder: Path, *, train: list[Item], validation: list[Item], **parameters: Any) -> Task:
    return Task(
        recipe="speech-recognizer",
        parameters=checked(SpeechRecognizer.parameters, parameters),
        kind="speech",
        labels=[],
        columns=[],
        train=train,
        validation=validation,
        max_pixels=1,
    )


class Told(Reporter):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY))
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)
