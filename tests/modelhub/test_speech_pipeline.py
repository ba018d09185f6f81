"""The recognizer's serving side without its engine: files to features, probabilities to text, and what is refused."""

import io
import json
from typing import Any

import numpy as np
import pytest
import soundfile

from modelhub.recipes.learning import Tensors
from modelhub.recipes.speech import interface, language, settings
from modelhub.recipes.speech.pipeline import SpeechPipeline
from modelhub.recipes.speech.settings import Settings
from modelhub.sounds import NotASound

ALPHABET = language.alphabet_of(["go on"])
KNOWN = Settings(
    alphabet=ALPHABET,
    mean=np.full(64, -3, np.float32),
    deviation=np.full(64, 2, np.float32),
    beam=8,
    language_weight=0.5,
    word_bonus=0.5,
    counts=None,
    usual_seconds=1.5,
)
PIPELINE = SpeechPipeline(KNOWN)


def file(seconds: float, *, kind: str = "WAV", rate: int = 16_000, loudness: float = 0.1, channels: int = 1) -> bytes:
    out = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, loudness, (round(seconds * rate), channels)).astype(np.float32)
    soundfile.write(out, samples, rate, format=kind)
    return out.getvalue()


def given(*files: bytes) -> Tensors:
    rows = np.empty(len(files), object)
    rows[:] = files
    return {"audio": rows}


def test_sounds_become_features_of_one_length() -> None:
    found = PIPELINE.encode(given(file(0.5), file(1.0), file(0.7, kind="FLAC", rate=44_100, channels=2)))
    assert found["features"].shape == (3, 128, 64)
    assert found["features"].dtype == np.float32
    assert found["frames"].tolist() == [50, 100, 70]
    assert not found["features"][0, 50:].any()
    assert found["features"][0, 49].all()


def test_a_row_is_the_same_alone_and_among_others() -> None:
    together = PIPELINE.encode(given(file(0.5), file(1.0)))
    alone = PIPELINE.encode(given(file(0.5)))
    assert alone["features"].shape == (1, 64, 64)
    assert np.array_equal(together["features"][0, :50], alone["features"][0, :50])


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_the_bucket_by_the_header_holds_every_frame(kind: str, rate: int) -> None:
    for seconds in (0.3, 0.32, 0.639, 0.64, 1.27):
        rows = given(file(seconds, kind=kind, rate=rate))
        found = PIPELINE.encode(rows)
        assert PIPELINE.buckets(rows) == found["features"].shape[1] >= found["frames"][0]


def test_what_is_no_sound_has_the_smallest_bucket_and_is_refused() -> None:
    assert PIPELINE.buckets(given(b"hello")) == 32
    with pytest.raises(NotASound, match="hello"):
        PIPELINE.encode(given(b"hello"))


def test_a_long_sound_is_refused_by_its_header() -> None:
    hours = file(0.1)
    hours = hours[:4] + b"\xff\xff\xff\x7f" + hours[8:40] + (3 * 3600 * 32_000).to_bytes(4, "little") + hours[44:]
    with pytest.raises(NotASound, match="cut short"):
        PIPELINE.encode(given(hours))
    with pytest.raises(NotASound, match=r"61\.0 seconds long; the limit is 60"):
        PIPELINE.encode(given(file(61, rate=8_000)))


def test_silence_says_nothing() -> None:
    found = PIPELINE.encode(given(file(0.5, loudness=0.00001)))
    assert found["frames"].tolist() == [0]
    outputs = PIPELINE.decode(
        {"log_probabilities": np.zeros((1, 25, len(ALPHABET) + 1), np.float32), "steps": np.zeros(1, np.int32)}
    )
    assert outputs["text"].tolist() == [b""]
    assert json.loads(outputs["words"][0]) == []


def test_probabilities_become_an_answer() -> None:
    blank = len(ALPHABET)
    path = [ALPHABET.index(c) for c in "go"] + [blank] * 2 + [ALPHABET.index(c) for c in " on"] + [blank] * 5
    scores = np.full((1, len(path), blank + 1), np.log(0.001), np.float32)
    scores[0, np.arange(len(path)), path] = np.log(0.99)
    # What is behind the row's steps is not read.
    scores[0, 8:] = 0
    outputs = PIPELINE.decode({"log_probabilities": scores, "steps": np.asarray([8], np.int32)})
    signature = interface.interface().signature
    assert [(one.name, outputs[one.name].dtype) for one in signature.outputs] == [
        (one.name, one.numpy) for one in signature.outputs
    ]
    answer = PIPELINE.answer({name: tensor[0, ...] for name, tensor in outputs.items()})
    assert answer == {
        "text": "go on",
        "confidence": pytest.approx(0.99**4, abs=1e-2),
        "words": [{"word": "go", "start": 0.0, "end": 0.04}, {"word": "on", "start": 0.1, "end": 0.14}],
        "seconds": 0.16,
    }


def test_a_sample_is_a_usual_sound() -> None:
    found = PIPELINE.encode(PIPELINE.sample(2))
    assert found["frames"].tolist() == [150, 150]


class Counting:
    """A fake engine that hears the same letter in each step, and remembers how many frames it was given."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def run(self, inputs: Tensors) -> Tensors:
        (frames,) = inputs["frames"].tolist()
        assert np.all(inputs["features"][0, :frames].any(axis=-1))
        assert not frames or not inputs["features"][0, frames:].any()  # of silence no frame is heard
        self.frames.append(frames)
        scores = np.full((1, settings.steps_of(inputs["features"].shape[1]), len(ALPHABET) + 1), -9, np.float32)
        scores[..., ALPHABET.index("g")] = 0
        return {"log_probabilities": scores, "steps": np.asarray([settings.steps_of(frames)], np.int32)}


def streamed(*files: bytes) -> tuple[list[dict[str, Any]], Tensors, list[int]]:
    """What is told before the end, what comes of it, and how many frames each time."""
    engine, told = Counting(), []
    steps = PIPELINE.stream(given(*files), engine)
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value, engine.frames


def test_streamed_the_first_second_comes_first_then_twice_as_much_and_the_end_is_the_plain_answer() -> None:
    told, outputs, frames = streamed(file(4.5))
    assert frames == [100, 200, 400, 450]
    assert [(one["text"], one["seconds"]) for one in told] == [("g", 1.0), ("g", 2.0), ("g", 4.0)]
    plain = PIPELINE.decode(Counting().run(PIPELINE.encode(given(file(4.5)))))
    assert {name: tensor.tolist() for name, tensor in outputs.items()} == {
        name: tensor.tolist() for name, tensor in plain.items()
    }


@pytest.mark.parametrize(("seconds", "loudness", "frames"), [(1.0, 0.1, 100), (3.0, 0.00001, 0)])
def test_what_is_short_or_silent_is_answered_at_once(seconds: float, loudness: float, frames: int) -> None:
    assert streamed(file(seconds, loudness=loudness))[::2] == ([], [frames])


def test_what_is_no_sound_is_refused_before_anything_is_told() -> None:
    with pytest.raises(NotASound, match="hello"):
        next(PIPELINE.stream(given(b"hello"), Counting()))
