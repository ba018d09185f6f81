"""Sounds: from hostile bytes to samples, the same code for checking a data set, training on it and serving."""

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tenants.errors import FieldError, Invalid

FORMATS = ("WAV", "FLAC", "OGG", "MP3")
RATE = 16_000  # samples a second of what `decode` gives
MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_CHANNELS = 8
MAX_FRAMES = 1 << 48  # what libsndfile says where a header leaves the count out is far above
# The codecs that a WAV or OGG file may hold; libsndfile knows more, each with a parser that strangers may try.
CODECS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"),
}
# How many of the samples that the header counts may fail to come: two frames of the coders with a delay.
MISSING = {"MP3": 2 * 1152, "OGG": 2 * 1152}
BLOCK = 65_536  # samples of all channels that are decoded at a time
# Programs that write WAV into a pipe do not know its length, and say it is about as long as can be.
UNKNOWN_LENGTH = 0x7FFF_F000
SILENCE = 0.001  # of full scale: -60 dB
FULL_SCALE = 0.99
CLIPPED_SHARE = 0.001

Samples = NDArray[np.float32]


class NotASound(Invalid):
    """The bytes are no sound that can be read; the text says what they are and what is expected."""

    title, slug = "The sound cannot be read", "not-a-sound"


@dataclass(frozen=True, slots=True)
class Info:
    """What a sound file says of itself: its length in seconds, samples a second, channels, and its format's name."""

    seconds: float
    rate: int
    channels: int
    format: str


def info(data: bytes) -> Info:
    """What the file's header says; nothing is decoded, so what follows may still be damaged. Raises NotASound."""
    with _opened(data) as file:
        return Info(file.frames / file.samplerate, file.samplerate, file.channels, _format(file))


def decode(data: bytes, *, max_seconds: float) -> Samples:
    """The sound as float32 of shape (samples,), mono, 16,000 a second, within about ±1.

    Channels are averaged; other rates are resampled (soxr, high quality). Raises NotASound for anything but a whole
    WAV, FLAC, OGG (Vorbis, Opus) or MP3 file of at most `max_seconds` seconds. Memory is taken for samples that are
    there, never for as many as a header claims.
    """
    with _opened(data) as file:
        _check_length(file.frames, file.samplerate, max_seconds)
        mono = _read(file, max_frames=int(max_seconds * file.samplerate) + 1)
        _check_length(len(mono), file.samplerate, max_seconds)
        if len(mono) + MISSING.get(_format(file), 0) < file.frames:
            raise NotASound(
                f"The {_format(file)} file is damaged or cut short: {len(mono):,} of its {file.frames:,} samples could "
                "be read.",
                errors=_expected(),
            )
        rate = file.samplerate
    if not np.isfinite(mono).all():
        raise NotASound("The sound holds samples that are no finite numbers.", errors=_expected())
    np.clip(mono, -1, 1, out=mono)
    resampled: Samples = mono if rate == RATE else soxr.resample(mono, rate, RATE).astype(np.float32, copy=False)
    if not len(resampled):
        raise NotASound(f"The sound is shorter than a sample: {len(mono)} at {rate:,} a second.", errors=_expected())
    return resampled


def silent(samples: Samples) -> bool:
    """Whether none of the samples is louder than -60 dB of full scale."""
    return not len(samples) or float(np.abs(samples).max()) < SILENCE


def clipped(samples: Samples) -> bool:
    """Whether the recording was too loud: more than one of a thousand samples lies at the end of the scale."""
    return bool(len(samples)) and float(np.mean(np.abs(samples) >= FULL_SCALE)) > CLIPPED_SHARE


def envelope(samples: Samples, points: int) -> tuple[Samples, Samples]:
    """The least and the greatest sample of each of `points` equal parts, to draw a waveform by; float32 (points,) each.

    There are as many points as samples where there are fewer samples than points.
    """
    points = min(points, len(samples))
    starts = np.arange(points, dtype=np.int64) * len(samples) // max(points, 1)
    return np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


def _opened(data: bytes) -> soundfile.SoundFile:
    """The file, opened by libsndfile once it looks like one of ours; its codec, rate and channels are allowed ones."""
    if not data:
        raise NotASound("The sound has 0 bytes.", errors=_expected())
    data = _without_tags(data)
    looks = _looks_like(data)
    if looks is None:
        raise NotASound(
            f"{len(data)} bytes that begin with {data[:12]!r} are no WAV, FLAC, OGG or MP3 file.", errors=_expected()
        )
    if looks == "WAV":
        _check_whole_wav(data)
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.LibsndfileError, ValueError) as error:
        raise NotASound(
            f"The bytes begin as a {looks} file does, but cannot be read as one: {_words(error)}", errors=_expected()
        ) from error
    try:
        _check_header(file, looks)
    except NotASound:
        file.close()
        raise
    return file


def _without_tags(data: bytes) -> bytes:
    """The bytes behind ID3v2 tags (a title, a cover picture) and the padding that follows them. id3.org, 2.4.0, 3.1."""
    start = at = 0
    while data.startswith(b"ID3", at) and at + 10 <= len(data):
        length = 0
        for byte in data[at + 6 : at + 10]:
            length = length << 7 | byte & 0x7F
        start = at = at + 10 + length
    if start:
        while at < len(data) and data[at] == 0:
            at += 1
    return data[at:] if at else data


def _looks_like(data: bytes) -> str | None:
    """The format that the first bytes are of; none if it is not one of ours."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "OGG"
    # Eleven bits of synchronisation, a version and a layer that are not the reserved ones. ISO/IEC 11172-3, 2.4.2.3.
    if len(data) > 3 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x18 != 0x08 and data[1] & 0x06:
        return "MP3"
    return None


def _check_whole_wav(data: bytes) -> None:
    """Refuses a WAV file whose samples end before its header says so; libsndfile would take what there is."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sL", data, at)
        if kind == b"data":
            there = len(data) - at - 8
            if there < length < UNKNOWN_LENGTH:
                raise NotASound(
                    f"The WAV file is cut short: {there:,} of {length:,} bytes of sound are there.", errors=_expected()
                )
            return
        at += 8 + length + length % 2
    raise NotASound("The WAV file has no sound in it: it ends before its data.", errors=_expected())


def _check_header(file: soundfile.SoundFile, looks: str) -> None:
    if _format(file) != looks or file.subtype not in CODECS[looks]:
        raise NotASound(
            f"The {looks} file holds {_format(file)} {file.subtype}; expected one of {', '.join(CODECS[looks])}.",
            errors=_expected(),
        )
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise NotASound(
            f"The sound has {file.samplerate:,} samples a second; expected {MIN_RATE:,} to {MAX_RATE:,}.",
            errors=_expected(),
        )
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise NotASound(f"The sound has {file.channels} channels; expected 1 to {MAX_CHANNELS}.", errors=_expected())
    if file.frames < 1:
        raise NotASound("The sound has 0 samples.", errors=_expected())
    if file.frames > MAX_FRAMES:
        raise NotASound(f"The {looks} file does not say how many samples it has.", errors=_expected())


def _format(file: soundfile.SoundFile) -> str:
    return "WAV" if file.format == "WAVEX" else str(file.format)


def _check_length(frames: int, rate: int, max_seconds: float) -> None:
    if frames > max_seconds * rate:
        raise NotASound(
            f"The sound is {frames / rate:,.1f} seconds long; the limit is {max_seconds:g}.", errors=_expected()
        )


def _read(file: soundfile.SoundFile, *, max_frames: int) -> Samples:
    """At most so many frames, mixed down block by block; float32 (frames,)."""
    blocks: list[Samples] = []
    frames = 0
    while frames < max_frames:
        try:
            block = file.read(max(1, BLOCK // file.channels), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, ValueError) as error:
            raise NotASound(
                f"The {_format(file)} file is damaged after {frames:,} samples: {_words(error)}", errors=_expected()
            ) from error
        if not len(block):
            break
        blocks.append(block[:, 0] if file.channels == 1 else block.mean(axis=1, dtype=np.float32))
        frames += len(block)
    if not blocks:
        raise NotASound(f"The {_format(file)} file has no sound that could be decoded.", errors=_expected())
    return np.concatenate(blocks)


def _words(error: Exception) -> str:
    """What libsndfile says, without where soundfile was when it said so."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".") + "."


def _expected() -> tuple[FieldError, ...]:
    return (FieldError("body", "Expected a whole WAV, FLAC, OGG (Vorbis, Opus) or MP3 file."),)
