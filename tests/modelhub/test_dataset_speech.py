"""Data sets of speech over HTTP: sound files of all sorts, their transcripts, and splits by speaker."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rest_framework.test import APIClient

from tests.conftest import Account
from tests.modelhub import recordings, zips
from tests.modelhub.calls import manifest_of, problems, uploaded, warnings
from tests.modelhub.places import places
from tests.modelhub.recordings import listed, tone, written

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

KIND = "speech"
SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def with_lines(*lines: str, files: dict[str, bytes] | None = None) -> bytes:
    """A usable data set with more files and more lines in its list."""
    usable = recordings.good()
    usable["transcripts.csv"] += "".join(f"{line}\n" for line in lines).encode()
    return zips.packed(usable | (files or {}))


def test_recordings_and_transcripts_become_items(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(acme_client, KIND, zips.packed(recordings.good()))
    assert (row["state"], row["items"], row["classes"]) == ("checked", 12, [])
    assert row["report"]["counts"] == {"train": 11, "validation": 1}
    manifest = manifest_of(acme, row)
    item = next(item for item in manifest.items if item.name == "audio/4.wav")
    assert (item.target, item.group) == ("yes", "bob")
    assert {k: item.facts[k] for k in ("seconds", "rate", "channels")} == {
        "seconds": 0.5,
        "rate": 16_000,
        "channels": 1,
    }
    content = row["report"]["content"]
    assert content["vocabulary"]["words"] == 2
    assert content["alphabet"] == "enosy"
    assert content["seconds"]["train"]["total"] == pytest.approx(5.5)
    assert sum(content["seconds"]["train"]["histogram"]["counts"]) == 11


@pytest.mark.parametrize("names", [("path", "transcript", "speaker"), ("audio_filepath", "text", "speaker")])
def test_json_lines_list_recordings_too(acme_client: APIClient, names: tuple[str, str, str]) -> None:
    files = {name: data for name, data in recordings.good().items() if name != "transcripts.csv"}
    rows = [json.dumps(dict(zip(names, (name, "yes", "ann"), strict=True))) for name in files]
    row = uploaded(acme_client, KIND, zips.packed(files | {"train.jsonl": "\n".join(rows).encode()}))
    assert (row["state"], row["report"]["good"]) == ("checked", 12)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
def test_every_format_rate_and_channel_count_is_taken(
    acme: Account, acme_client: APIClient, form: str, rate: int, channels: int
) -> None:
    data = written(tone(99, rate=rate, channels=channels), rate=rate, form=form)
    name = f"audio/other.{form.lower()}"
    row = uploaded(acme_client, KIND, with_lines(f"{name},maybe,dee", files={name: data}))
    assert row["report"]["bad"] == 0
    facts = next(item for item in manifest_of(acme, row).items if item.name == name).facts
    assert (facts["rate"], facts["channels"], facts["format"]) == (rate, channels, form)
    assert float(facts["seconds"]) == pytest.approx(0.5, abs=0.1)
    assert f"{rate:,}, 16,000" in warnings(row)["several-rates"] or "16,000, 44,100" in warnings(row)["several-rates"]
    assert ("several-channels" in warnings(row)) == (channels == 2)


def three_hours() -> bytes:
    return written(np.zeros(3 * 3600 * 8_000, np.int16), rate=8_000, form="FLAC")


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "audio/silent.wav": (lambda: written(np.zeros(8_000, np.int16)), "silent"),
    "audio/nothing.wav": (lambda: written(np.zeros(0, np.int16)), "0 samples"),
    "audio/hours.flac": (three_hours, "10,800.0 seconds long; the limit is 60"),
    "audio/corrupt.wav": (lambda: b"RIFF\xff\xff\xff\x7fWAVEfmt junk", "WAV"),
    "audio/cut.wav": (lambda: written(tone(5))[:5_000], "cut short"),
    "audio/text.wav": (lambda: b"This is a text.", "no WAV, FLAC, OGG or MP3"),
    "audio/empty.wav": (lambda: b"", "0 bytes"),
}


def test_bad_sounds_are_named_and_left_out(acme_client: APIClient) -> None:
    files = {name: make() for name, (make, _) in BAD.items()}
    row = uploaded(acme_client, KIND, with_lines(*(f"{name},yes,ann" for name in BAD), files=files))
    assert (row["state"], row["report"]["good"], row["report"]["bad"]) == ("checked", 12, len(BAD))
    found = problems(row)
    for name, (_, words) in BAD.items():
        assert words in found[name]


def test_a_recording_that_was_too_loud_is_kept_and_named(acme_client: APIClient) -> None:
    loud = written(np.clip(tone(50) * 20, -1, 1))
    row = uploaded(acme_client, KIND, with_lines("audio/loud.wav,yes,ann", files={"audio/loud.wav": loud}))
    assert row["report"]["good"] == 13
    assert "1 recording is recorded too loud" in warnings(row)["clipped"]
    assert "'audio/loud.wav'" in warnings(row)["clipped"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("audio/missing.wav,yes,ann", "no file 'audio/missing.wav'"),
        ("audio/x.wav,,ann", "transcript is empty"),
        ("audio/x.wav,yes ☃,ann", "nobody says: '☃'"),
        ("audio/x.wav,yes \x07,ann", "nobody says"),
        (f"audio/x.wav,{'la ' * 500},ann", "1,499 characters"),
        ("audio/0.wav,yes,ann", "more than once"),
        ("audio/x.wav,yes", "2 fields; expected 3"),
        ("../../etc/passwd,yes,ann", "no file '../../etc/passwd'"),
    ],
)
def test_a_line_of_the_list_that_is_bad_is_named(acme_client: APIClient, line: str, words: str) -> None:
    row = uploaded(acme_client, KIND, with_lines(line, files={"audio/x.wav": written(tone(77))}))
    assert row["state"] == "checked"
    assert words in problems(row)["transcripts.csv:14"]


def test_characters_that_are_in_validation_only_are_a_warning(acme_client: APIClient) -> None:
    files = {name: data for name, data in recordings.good().items() if name != "transcripts.csv"}
    rows = [
        {"path": name, "transcript": "yes" if n < 10 else "no, señor", "split": "train" if n < 10 else "dev"}
        for n, name in enumerate(files)
    ]
    rows[11]["transcript"] = '"no, señor"'
    rows[10]["transcript"] = '"no, señor"'
    row = uploaded(acme_client, KIND, zips.packed(files | {"transcripts.csv": listed(rows)}))
    assert row["report"]["split"]["by"] == "given"
    assert "'ñ'" in warnings(row)["unknown-characters"]
    assert "'e'" not in warnings(row)["unknown-characters"]


def test_words_that_nobody_can_say_so_fast_are_a_warning(acme_client: APIClient) -> None:
    row = uploaded(
        acme_client, KIND, with_lines(f"audio/x.wav,{'many ' * 20},ann", files={"audio/x.wav": written(tone(77))})
    )
    assert "'audio/x.wav'" in warnings(row)["too-fast"]


def test_the_same_recording_on_both_sides_is_a_warning(acme_client: APIClient) -> None:
    """Also in another format: what counts is how it sounds."""
    files = {name: data for name, data in recordings.good().items() if name != "transcripts.csv"}
    files["audio/again.flac"] = written(tone(3), form="FLAC")
    files["audio/3.wav"] = written(tone(3))
    rows = [
        {"path": name, "transcript": "yes", "split": "validation" if name.endswith("flac") else "train"}
        for name in files
    ]
    row = uploaded(acme_client, KIND, zips.packed(files | {"transcripts.csv": listed(rows)}))
    assert "'audio/3.wav' and 'audio/again.flac'" in warnings(row)["duplicates-across-splits"]


def test_no_speaker_is_on_both_sides_when_divided_by_speaker(acme: Account, acme_client: APIClient) -> None:
    body = zips.packed(recordings.good(12))
    mixed = uploaded(acme_client, KIND, body, name="mixed", split={"validation": 0.4})
    assert "speakers are in both splits" in warnings(mixed)["groups-across-splits"]
    row = uploaded(acme_client, KIND, body, split={"by": "group"})
    assert "groups-across-splits" not in warnings(row)
    items = manifest_of(acme, row).items
    assert {item.split: {i.group for i in items if i.split == item.split} for item in items}.keys() == {
        "train",
        "validation",
    }
    assert len({(item.group, item.split) for item in items}) == 3


def test_speakers_may_stand_in_a_column_of_another_name(acme: Account, acme_client: APIClient) -> None:
    files = {name: data for name, data in recordings.good().items() if name != "transcripts.csv"}
    rows = [{"path": name, "transcript": "yes", "who": "ab"[n % 2]} for n, name in enumerate(files)]
    body = zips.packed(files | {"transcripts.csv": listed(rows)})
    row = uploaded(acme_client, KIND, body, split={"by": "group", "column": "who"})
    assert row["report"]["counts"] == {"train": 6, "validation": 6}
    wrong = uploaded(acme_client, KIND, body, name="wrong", split={"by": "group", "column": "whom"})
    assert "no column 'whom'" in wrong["report"]["reasons"][0]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"audio/1.wav": written(tone(1))}, "no list of transcripts"),
        ({"audio/1.wav": written(tone(1)), "transcripts.csv": b"a,b\n1,2\n"}, "no column path and no transcript"),
        (
            {"audio/1.wav": written(tone(1)), "transcripts.csv": b"path,transcript\naudio/1.wav,yes\n"},
            "train has 1 good",
        ),
        ({"transcripts.csv": b"path,transcript\naudio/1.wav,yes\n"}, "train has no good recordings"),
        ({"transcripts.csv": b""}, "It is empty."),
    ],
)
def test_too_little_to_learn_from_is_refused_in_words(
    acme_client: APIClient, files: dict[str, bytes], reason: str
) -> None:
    row = uploaded(acme_client, KIND, zips.packed(files))
    assert row["state"] == "rejected"
    assert reason in " ".join(row["report"]["reasons"])


@pytest.mark.skipif(not (SHARED / "spoken_digits").is_dir(), reason="needs ../shared/data/spoken_digits")
def test_real_digits_are_divided_by_speaker(acme: Account, acme_client: APIClient) -> None:
    folder = SHARED / "spoken_digits"
    lines = (folder / "transcripts.csv").read_text().splitlines()
    some = lines[:1] + lines[1::10]
    files = {name: (folder / name).read_bytes() for name in (line.split(",")[0] for line in some[1:])}
    body = zips.packed(files | {"transcripts.csv": "\n".join(some).encode()})
    row = uploaded(acme_client, KIND, body, split={"by": "group", "validation": 0.2})
    assert (row["items"], row["report"]["bad"]) == (250, 0)
    assert row["report"]["counts"] == {"train": 200, "validation": 50}
    assert {item.group for item in manifest_of(acme, row).of("validation")} < {
        "george", "jackson", "lucas", "nicolas", "yweweler",
    }  # fmt: skip
