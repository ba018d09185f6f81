"""A split of a speech data set while it is learned: its features in a file, and what is said in each sound."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from modelhub import sounds
from modelhub.recipes.speech import features, language
from modelhub.recipes.speech.features import MELS, Frames
from tenants.errors import Refusal

if TYPE_CHECKING:
    from modelhub.trainer.task import Item, Reporter

MAX_SECONDS = 30.0
# Below this a band is nearly constant, as those above 4 kHz are in sounds of a telephone; it is not amplified.
LEAST_DEVIATION = 0.5


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sound: its name, its speaker, the normalised transcript; of each speed the first of its frames and how many."""

    name: str
    speaker: str
    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The features, not yet normed, of all sounds one behind the other, float32 (frames, 64), in a file."""

    frames: NDArray[np.float32]
    sounds: tuple[Spoken, ...]

    def __len__(self) -> int:
        return len(self.sounds)

    def of(self, number: int, speed: int = 0) -> Frames:
        start, frames = self.sounds[number].spans[speed]
        return self.frames[start : start + frames]

    def norms(self) -> tuple[Frames, Frames]:
        """The mean and the deviation of each band over the sounds at their own speed, float32 (64,) each."""
        count = 0
        total, squares = np.zeros(MELS), np.zeros(MELS)
        for number in range(len(self)):
            frames = self.of(number).astype(np.float64)
            count += len(frames)
            total += frames.sum(axis=0)
            squares += np.square(frames).sum(axis=0)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - np.square(mean), LEAST_DEVIATION**2))
        return mean.astype(np.float32), deviation.astype(np.float32)


def read(items: Sequence["Item"], *, split: str, file: Path, speeds: Sequence[float], report: "Reporter") -> Corpus:
    """Decodes every item; one that cannot be learned from is named in the log and left out."""
    found: list[Spoken] = []
    place = 0
    with file.open("wb") as array:
        for number, item in enumerate(items, start=1):
            try:
                samples, text = _read(item)
            except (Refusal, OSError) as error:
                # Where the file lay on this machine is no concern of a customer's.
                why = error.strerror if isinstance(error, OSError) else error
                report.log(f"Left out {item.name}: {why}")
            else:
                spans = _write(_at_speeds(samples, speeds), array, place)
                place = sum(spans[-1])
                found.append(Spoken(name=item.name, speaker=item.group, text=text, spans=spans))
            report.progress("decoding", number, len(items), split=split)
    shape = (place, MELS)
    frames: NDArray[np.float32] = (
        np.memmap(file, np.float32, "r", shape=shape) if place else np.zeros(shape, np.float32)
    )
    return Corpus(frames=frames, sounds=tuple(found))


def _read(item: "Item") -> tuple[sounds.Samples, str]:
    text = language.normalised(item.target)
    if not text:
        raise sounds.NotASound(f"its transcript {item.target!r} has no letters or digits.")
    samples = sounds.decode(Path(item.file).read_bytes(), max_seconds=MAX_SECONDS)
    if sounds.silent(samples):
        raise sounds.NotASound("it is silent.")
    return samples, text


def _at_speeds(samples: sounds.Samples, speeds: Iterable[float]) -> Iterable[Frames]:
    """The features of the sound as if it were played so many times as fast; its pitch moves too."""
    for speed in speeds:
        played = samples if speed == 1 else soxr.resample(samples, sounds.RATE * speed, sounds.RATE)
        yield features.log_mel(played)


def _write(found: Iterable[Frames], array: BinaryIO, place: int) -> tuple[tuple[int, int], ...]:
    spans = []
    for frames in found:
        array.write(frames.tobytes())
        spans.append((place, len(frames)))
        place += len(frames)
    return tuple(spans)
