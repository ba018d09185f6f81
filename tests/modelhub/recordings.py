"""Small sound files, as a customer might upload them with their transcripts."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray


def tone(seed: int, *, seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> NDArray[np.float32]:
    """A sine of a pitch of its own, at a third of full scale; float32 (samples, channels)."""
    pitch = np.random.default_rng(seed).uniform(100, 1000)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave.astype(np.float32)[:, None], channels, axis=1)


def written(samples: NDArray[Any], *, rate: int = 16_000, form: str = "WAV") -> bytes:
    """The samples as a sound file; of 16 bits, whatever the format would make of them."""
    if samples.dtype.kind == "f":
        samples = (samples * 32767).round().astype(np.int16)
    body = io.BytesIO()
    soundfile.write(body, samples, rate, format=form)
    return body.getvalue()


def good(count: int = 12, *, speakers: Sequence[str] = ("ann", "bob", "cy")) -> dict[str, bytes]:
    """The files of a usable data set: each recording another, its speaker the next one."""
    files = {f"audio/{number}.wav": written(tone(number)) for number in range(count)}
    rows = [
        {"path": name, "transcript": ("yes", "no")[number % 2], "speaker": speakers[number % len(speakers)]}
        for number, name in enumerate(files)
    ]
    return files | {"transcripts.csv": listed(rows)}


def listed(rows: Sequence[Mapping[str, str]]) -> bytes:
    """A list of transcripts as a CSV file."""
    names = list(rows[0])
    return "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows), ""]).encode()
