"""What the recognizer sees of a sound: log-mel spectrograms against their formula, padding, buckets, augmentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from modelhub.recipes.speech import augmentation, features, settings


def noise(seconds: float, *, seed: int = 0) -> features.Frames:
    return np.random.default_rng(seed).normal(0, 0.2, round(16_000 * seconds)).astype(np.float32)


def by_formula(samples: features.Frames) -> features.Frames:
    """The definition, a frame and a band at a time, by a discrete Fourier transform written out."""
    samples = (samples * 0.1 / np.sqrt(np.mean(samples.astype(np.float64) ** 2))).astype(np.float32)
    frames = -(-len(samples) // 160)
    samples = np.concatenate([samples, np.zeros(400, np.float32)])
    hann = np.asarray([np.sin(np.pi * n / 400) ** 2 for n in range(400)])
    waves = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    mels = np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 7600 / 700), 66)
    edges = 700 * (10 ** (mels / 2595) - 1)
    found = np.zeros((frames, 64))
    for frame in range(frames):
        power = np.abs(waves @ (samples[160 * frame : 160 * frame + 400] * hann)) ** 2
        for band in range(64):
            low, middle, high = edges[band : band + 3]
            for place in range(257):
                hertz = place * 16_000 / 512
                if low < hertz <= middle:
                    found[frame, band] += power[place] * (hertz - low) / (middle - low)
                elif middle < hertz < high:
                    found[frame, band] += power[place] * (high - hertz) / (high - middle)
    return np.log(found + 1e-3).astype(np.float32)


def test_it_is_the_log_mel_spectrogram() -> None:
    samples = noise(0.123)
    found = features.log_mel(samples)
    assert found.shape == (13, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_formula(samples), atol=2e-3)


def test_a_tone_is_loudest_in_its_band() -> None:
    mels = np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 7600 / 700), 66)
    middles = (700 * (10 ** (mels / 2595) - 1))[1:-1]
    for band in (20, 40, 60):
        tone = np.sin(2 * np.pi * middles[band] * np.arange(8000) / 16_000).astype(np.float32)
        assert abs(int(features.log_mel(tone)[10].argmax()) - band) <= 1


def test_loudness_does_not_matter() -> None:
    samples = noise(0.5)
    np.testing.assert_allclose(features.log_mel(samples), features.log_mel(samples * np.float32(0.05)), atol=1e-3)


def test_silence_is_not_amplified() -> None:
    assert features.log_mel(np.zeros(1600, np.float32)).max() == pytest.approx(np.log(1e-3))


@trials(deadline=None)
@given(st.integers(1, 5000))
def test_every_sound_has_a_frame_for_each_10_ms(samples: int) -> None:
    assert len(features.log_mel(np.ones(samples, np.float32))) == features.frames_of(samples) == -(-samples // 160)


@trials(deadline=None)
@given(st.integers(1, 100_000))
def test_a_bucket_holds_what_it_is_for_and_little_more(frames: int) -> None:
    bucket = settings.bucket(frames)
    assert bucket >= frames
    assert bucket <= max(32, 1.5 * frames)
    assert bucket % 2 == 0
    assert settings.bucket(bucket) == bucket


def test_padding_is_zero_behind_each_row() -> None:
    rows = [np.ones((3, 64), np.float32), np.ones((5, 64), np.float32)]
    found = settings.padded(rows, 8)
    assert found.shape == (2, 8, 64)
    assert found[:, :, 0].sum(axis=1).tolist() == [3, 5]


def test_noise_in_the_features_is_noise_in_the_sound() -> None:
    """White noise of half the sound's loudness, put into the frames or into the samples: the same on average."""
    tone = np.sin(2 * np.pi * 440 * np.arange(160_000) / 16_000).astype(np.float32)
    tone *= features.LEVEL / np.sqrt(np.mean(tone**2))

    class Loudest:
        """A generator that always draws the loudest noise."""

        standard_exponential = np.random.default_rng(1).standard_exponential

        def random(self, dtype: type) -> np.float32:
            return np.float32(1.0)

    found = augmentation.noisy(features.log_mel(tone), loudest=0.5, generator=Loudest())  # type: ignore[arg-type]
    white = np.random.default_rng(2).normal(0, 0.5 * features.LEVEL, len(tone)).astype(np.float32)
    loudness = np.float32(np.sqrt(np.mean(np.square(tone + white))) / features.LEVEL)
    expected = np.exp(features.log_mel(tone + white)).mean(axis=0) * loudness**2
    away = slice(20, 64)  # from the tone's own band, where both are loud
    np.testing.assert_allclose(np.exp(found).mean(axis=0)[away], expected[away], rtol=0.15)


def test_masks_hide_parts_and_leave_the_rest() -> None:
    frames = np.ones((200, 64), np.float32)
    augmentation.masked(frames, times=2, bands=2, generator=np.random.default_rng(5))
    assert set(np.unique(frames)) == {0.0, 1.0}
    hidden_frames, hidden_bands = (frames == 0).all(axis=1).sum(), (frames == 0).all(axis=0).sum()
    assert 0 < hidden_frames <= 2 * 20
    assert 0 < hidden_bands <= 2 * 10
    again = np.ones((200, 64), np.float32)
    augmentation.masked(again, times=2, bands=2, generator=np.random.default_rng(5))
    assert np.array_equal(frames, again)
