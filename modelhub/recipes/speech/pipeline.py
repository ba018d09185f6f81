"""The serving side of the speech recognizer: sound files to features, probabilities to text. No TensorFlow."""

import io
import json
import math
import wave
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub import sounds
from modelhub.recipes.learning import Runs, Tensors
from modelhub.recipes.speech import features, settings
from modelhub.recipes.speech.decoding import Decoder
from modelhub.recipes.speech.settings import STEP_SECONDS, Settings

# Longer sounds are refused: a request is answered while its caller waits.
MAX_SECONDS = 60.0
# Streamed, the first second is answered first, then twice as much, and so on to the end.
FIRST_FRAMES = features.FRAMES_A_SECOND
CONTENT_TYPES = (
    "audio/wav",
    "audio/x-wav",
    "audio/wave",
    "audio/vnd.wave",
    "audio/flac",
    "audio/x-flac",
    "audio/ogg",
    "audio/mpeg",
    "audio/mp3",
)


class SpeechPipeline:
    """`audio`, files of any format that `sounds` reads, to `text`, `confidence`, `words` (JSON) and `seconds`."""

    content_types: tuple[str, ...] = CONTENT_TYPES

    def __init__(self, known: Settings) -> None:
        self._settings = known
        self._decoder = Decoder(known)

    def buckets(self, inputs: Tensors) -> int:
        """The frames that the longest of these sounds is padded to, by what the headers say."""
        return settings.bucket(max(_frames_at_most(data) for data in inputs["audio"]))

    def encode(self, inputs: Tensors) -> Tensors:
        """BYTES (rows,) to `features` float32 (rows, bucket, 64) and `frames` int32 (rows,); raises NotASound.

        A silent sound has no frames, and so no text.
        """
        files = inputs["audio"]
        found = [sounds.decode(data, max_seconds=MAX_SECONDS) for data in files]
        rows = [self._settings.seen(one) for one in found]
        frames = [0 if sounds.silent(one) else len(row) for one, row in zip(found, rows, strict=True)]
        given = settings.padded(rows, self.buckets(inputs))
        return {"features": given, "frames": np.asarray(frames, np.int32)}

    def decode(self, outputs: Tensors) -> Tensors:
        steps = outputs["steps"]
        heard = [
            self._decoder.heard(one[:length]) for one, length in zip(outputs["log_probabilities"], steps, strict=True)
        ]
        return {
            "text": _bytes(one.text for one in heard),
            "confidence": np.asarray([one.confidence for one in heard], np.float32),
            "words": _bytes(json.dumps([w.as_json() for w in one.words], ensure_ascii=False) for one in heard),
            "seconds": np.asarray(steps, np.float32) * np.float32(STEP_SECONDS),
        }

    def stream(self, inputs: Tensors, engine: Runs) -> Generator[dict[str, Any], None, Tensors]:
        """What the first seconds say, each time of twice as many; in all at most as much work again as the answer's.

        The model hears a sound from both its ends, so that the last words of a part may become others.
        """
        whole = self.encode(inputs)
        row, end = whole["features"][0], int(whole["frames"][0])
        heard = FIRST_FRAMES
        while heard < end:
            part = settings.padded([row[:heard]], settings.bucket(heard))
            yield self.answer(self.decode(engine.run({"features": part, "frames": np.asarray([heard], np.int32)})))
            heard *= 2
        return self.decode(engine.run(whole))

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        return {
            "text": _one(outputs["text"]).decode(),
            "confidence": round(float(_one(outputs["confidence"])), 6),
            "words": json.loads(_one(outputs["words"])),
            "seconds": round(float(_one(outputs["seconds"])), 2),
        }

    def sample(self, rows: int) -> Tensors:
        """Noise in a WAV file, as long as the training's sounds were."""
        samples = np.random.default_rng(0).normal(0, 0.1, round(self._settings.usual_seconds * sounds.RATE))
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sounds.RATE)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return {"audio": _bytes([out.getvalue()] * rows)}


def _frames_at_most(data: bytes) -> int:
    """How many frames a sound has, by its header; 0 for what is none, of which `encode` says why."""
    try:
        told = sounds.info(data)
    except sounds.NotASound:
        return 0
    return features.frames_of(math.ceil(min(told.seconds, MAX_SECONDS) * sounds.RATE) + 1)


def _one(value: Any) -> Any:
    return np.ravel(value)[0]


def _bytes(values: Iterable[str | bytes]) -> NDArray[np.object_]:
    rows = [value.encode() if isinstance(value, str) else value for value in values]
    found = np.empty(len(rows), object)
    found[:] = rows
    return found
