"""Whatever bytes come, `sounds.decode` gives samples or NotASound."""

import contextlib
import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from modelhub import sounds
from modelhub.sounds import NotASound, Samples

SECONDS = 0.5
TONES = (440, 1000)


def tone(rate: int = 16_000, *, hertz: float = 440, seconds: float = SECONDS) -> Samples:
    """A sine at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def saved(samples: Samples, *, rate: int = 16_000, kind: str = "WAV", codec: str = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=codec)
    return out.getvalue()


def decode(data: bytes, *, max_seconds: float = 10) -> Samples:
    return sounds.decode(data, max_seconds=max_seconds)


def loudest_hertz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * sounds.RATE / len(samples))


CODECS = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "ULAW"),
    ("WAVEX", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
FILES = {f"{kind} {codec}": saved(tone(), kind=kind, codec=codec) for kind, codec in CODECS}


@pytest.mark.parametrize("name", FILES)
def test_a_sound_gives_its_samples(name: str) -> None:
    samples = decode(FILES[name])
    assert samples.dtype == np.float32
    assert samples.shape == (8000,)
    # Coders with losses are least exact where the sound begins and ends.
    assert np.abs(samples[800:7200] - tone()[800:7200]).mean() < 0.02


@pytest.mark.parametrize("name", FILES)
def test_the_header_tells_what_the_file_is(name: str) -> None:
    told = sounds.info(FILES[name])
    assert (told.rate, told.channels) == (16_000, 1)
    assert told.seconds == pytest.approx(SECONDS)
    assert told.format == name.split()[0].replace("WAVEX", "WAV")


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("hertz", TONES)
def test_any_rate_becomes_16000_and_keeps_its_pitch(rate: int, hertz: float) -> None:
    samples = decode(saved(tone(rate, hertz=hertz), rate=rate))
    assert abs(len(samples) - 8000) <= 1
    assert loudest_hertz(samples) == pytest.approx(hertz, abs=4)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged() -> None:
    both = np.stack([tone(), np.zeros(8000, np.float32)], axis=1)
    assert np.abs(decode(saved(both)) - tone() / 2).max() < 1e-4


def test_a_title_and_a_cover_before_the_sound_do_not_matter() -> None:
    tag = b"ID3\x04\x00\x00" + bytes((0, 0, 2, 0)) + b"\xff" * 256 + b"\0" * 64
    for name in ("MP3 MPEG_LAYER_III", "FLAC PCM_16"):
        assert len(decode(tag + FILES[name])) == 8000


def test_values_beyond_full_scale_are_clipped() -> None:
    samples = decode(saved(tone() * 1000, codec="FLOAT"))
    assert np.abs(samples).max() == 1
    assert sounds.clipped(samples)


def wav(*, rate: int = 16_000, channels: int = 1, claimed: int | None = None, body: bytes = b"\1\0" * 1000) -> bytes:
    """A WAV file of 16 bits by hand, that may lie."""
    told = len(body) if claimed is None else claimed
    head = struct.pack("<4sLHHLLHH", b"fmt ", 16, 1, channels, rate, 2 * rate * channels & 0xFFFFFFFF, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<L4s", 36 + told & 0xFFFFFFFF, b"WAVE")
        + head
        + struct.pack("<4sL", b"data", told)
        + body
    )


def flac_that_claims(samples: int) -> bytes:
    """A small FLAC file whose header says that it has so many samples; 0 is that it does not know."""
    data = bytearray(FILES["FLAC PCM_16"])
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = struct.pack(">L", samples & 0xFFFFFFFF)
    return bytes(data)


BAD = {
    "no bytes": (b"", "0 bytes"),
    "a text": (b"hello, this is no sound at all", "begin with b'hello"),
    "another format": (saved(tone(), kind="AIFF"), "no WAV, FLAC, OGG or MP3"),
    "another format behind a tag": (b"ID3\x04\0\0\0\0\0\0" + saved(tone(), kind="AIFF"), "no WAV, FLAC, OGG or MP3"),
    "another codec": (saved(tone(), codec="IMA_ADPCM"), "IMA_ADPCM; expected one of PCM_U8"),
    "0 samples": (wav(body=b""), "0 samples"),
    "a wav without data": (wav()[:36], "no sound in it"),
    "a wav cut short": (wav(claimed=100_000), "cut short: 2,000 of 100,000 bytes"),
    "a flac cut short": (FILES["FLAC PCM_16"][:4000], "damaged"),
    "an ogg cut short": (FILES["OGG VORBIS"][:2000], "cannot be read as one"),
    "an mp3 cut short": (saved(tone(seconds=2), kind="MP3", codec="MPEG_LAYER_III")[:-1500], "damaged or cut short"),
    "a flac of nothing": (b"fLaC" + b"\1" * 200, "begin as a FLAC file"),
    "an ogg of nothing": (b"OggS" + b"\1" * 200, "begin as a OGG file"),
    "an mp3 of nothing": (b"\xff\xfb" + b"x" * 500, "begin as a MP3 file"),
    "a flac without length": (flac_that_claims(0), "does not say how many samples"),
    "a flac of three months": (flac_that_claims(1 << 35), "limit is 10"),
    "a flac that claims a little more": (flac_that_claims(100_000), "damaged"),
    "a crawling rate": (wav(rate=100), "100 samples a second; expected 4,000 to 192,000"),
    "an absurd rate": (wav(rate=4_000_000), "4,000,000 samples a second"),
    "too many channels": (wav(channels=100), "100 channels; expected 1 to 8"),
    "too long": (saved(tone(seconds=11)), "11.0 seconds long; the limit is 10"),
    "no numbers": (saved(np.full(1000, np.nan, np.float32), codec="FLOAT"), "no finite numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_refused_in_words(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(NotASound, match=words) as refused:
        decode(data)
    assert refused.value.errors[0].message == "Expected a whole WAV, FLAC, OGG (Vorbis, Opus) or MP3 file."


@pytest.mark.parametrize("name", ["no bytes", "a text", "0 samples", "an absurd rate", "a wav cut short"])
def test_the_header_alone_refuses_too(name: str) -> None:
    with pytest.raises(NotASound, match=BAD[name][1]):
        sounds.info(BAD[name][0])


def test_a_wav_written_into_a_pipe_is_read() -> None:
    assert len(decode(wav(claimed=0xFFFF_FFFF))) == 1000


def test_memory_is_taken_for_samples_not_for_claims() -> None:
    data = flac_that_claims(1 << 35)
    tracemalloc.start()
    try:
        with pytest.raises(NotASound):
            decode(data, max_seconds=1e9)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 2000), st.binary(min_size=1, max_size=40))
def test_damaged_files_give_samples_or_a_refusal(name: str, at: int, noise: bytes) -> None:
    data = bytearray(FILES[name])
    data[at : at + len(noise)] = noise
    with contextlib.suppress(NotASound):
        samples = decode(bytes(data), max_seconds=60)
        assert samples.ndim == 1
        assert np.isfinite(samples).all()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"\xff\xfb", b"ID3\4\0\0\0\0\0\1"]), st.binary(max_size=300)
)
def test_noise_behind_a_good_beginning_is_refused_or_read(start: bytes, noise: bytes) -> None:
    with contextlib.suppress(NotASound):
        assert len(decode(start + noise))


def test_silence_and_clipping_are_seen() -> None:
    assert sounds.silent(np.zeros(100, np.float32))
    assert sounds.silent(np.full(100, 0.0005, np.float32))
    assert not sounds.silent(tone())
    assert not sounds.clipped(tone())
    assert sounds.clipped(np.clip(4 * tone(), -1, 1))
    assert not sounds.clipped(np.zeros(0, np.float32))


def test_an_envelope_has_the_extremes_of_each_part() -> None:
    samples = np.asarray([0, 1, -1, 0.5, 0.25, -0.25], np.float32)
    lows, highs = sounds.envelope(samples, 3)
    assert lows.tolist() == [0, -1, -0.25]
    assert highs.tolist() == [1, 0.5, 0.25]
    lows, highs = sounds.envelope(samples, 100)
    assert lows.tolist() == highs.tolist() == samples.tolist()
