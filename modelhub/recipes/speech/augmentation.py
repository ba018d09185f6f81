"""Sounds made a little different each time that they are learned from: noise behind them, parts of them hidden."""

import numpy as np

from modelhub.recipes.speech import features
from modelhub.recipes.speech.features import Frames

# The widest part that one mask hides: of 64 bands, and of the frames of a sound. Park et al., "SpecAugment", 2019.
MASKED_BANDS = 10
MASKED_SHARE = 0.1
MASKED_FRAMES = 30


def noisy(frames: Frames, *, loudest: float, generator: np.random.Generator) -> Frames:
    """The frames, not yet normed, as if white noise were in the sound: float32 (frames, 64).

    Its loudness is drawn from 0 to `loudest`, as a share of the sound's own.
    """
    loudness = features.LEVEL * loudest * generator.random(dtype=np.float32)
    expected = np.square(loudness) * _white()
    drawn = generator.standard_exponential(frames.shape, dtype=np.float32)
    found: Frames = np.log(np.exp(frames) + expected * drawn)
    return found


def masked(frames: Frames, *, times: int, bands: int, generator: np.random.Generator) -> None:
    """Sets so many stretches of time and of bands of the normed frames to their mean, 0; in place."""
    most = int(min(MASKED_FRAMES, MASKED_SHARE * len(frames)))
    for _ in range(times):
        width = int(generator.integers(0, most + 1))
        start = int(generator.integers(0, len(frames) - width + 1))
        frames[start : start + width] = 0
    for _ in range(bands):
        width = int(generator.integers(0, MASKED_BANDS + 1))
        start = int(generator.integers(0, features.MELS - width + 1))
        frames[:, start : start + width] = 0


def _white() -> Frames:
    """What each band has of white noise whose samples have the deviation 1: float32 (64,)."""
    found: Frames = features.filters().sum(axis=0) * np.float32(np.square(features.window()).sum())
    return found
