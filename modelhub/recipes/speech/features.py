"""Log-mel spectrograms: what the speech recognizer sees of a sound, by the same code at training and when serving.

A frame is 25 ms of sound under a Hann window, every 10 ms; its power spectrum is summed up by 64 triangular filters
that are equally wide on the mel scale (HTK's: Young et al., The HTK Book, 5.4), and its logarithm is taken.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modelhub import sounds

WINDOW = 400
HOP = 160
FFT = 512
MELS = 64
LOWEST, HIGHEST = 50.0, 7_600.0  # hertz
LEVEL = 0.1  # the root mean square that every sound is brought to
QUIETEST = 1e-3  # what is more quiet is not amplified further
FLOOR = 1e-3  # is added to a filter's power before its logarithm
FRAMES_A_SECOND = sounds.RATE // HOP

Frames = NDArray[np.float32]


def frames_of(samples: int) -> int:
    """How many frames so many samples have: one begins every 10 ms, the last ones reach beyond the end."""
    return max(1, -(-samples // HOP))


def log_mel(samples: sounds.Samples) -> Frames:
    """float32 (samples,), 16,000 a second, to natural logarithms of power, float32 (frames, 64).

    The sound is first brought to one loudness, so that how near the microphone was does not matter.
    """
    frames = frames_of(len(samples))
    padded = np.zeros((frames - 1) * HOP + WINDOW, np.float32)
    loudness = float(np.sqrt(np.mean(np.square(samples), dtype=np.float64))) if len(samples) else 0.0
    padded[: len(samples)] = samples * np.float32(LEVEL / max(loudness, QUIETEST))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * window()
    spectrum = np.fft.rfft(windows, FFT)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    found: Frames = np.log(power @ filters() + np.float32(FLOOR))
    return found


@lru_cache(maxsize=1)
def filters() -> Frames:
    """The triangular filters, float32 (257, 64): the weight of each bin of the spectrum in each band."""
    hertz = np.fft.rfftfreq(FFT, 1 / sounds.RATE)
    edges = _hertz(np.linspace(_mel(LOWEST), _mel(HIGHEST), MELS + 2))
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    weights: Frames = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return weights


@lru_cache(maxsize=1)
def window() -> Frames:
    """The Hann window, float32 (400,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)
