"""Recordings of speech and what is said in them: sound files, and lists of their transcripts."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelhub import sounds
from modelhub.datasets import alike, files, lists, tallies
from modelhub.datasets.archives import Archive, shown
from modelhub.datasets.kinds.base import ZIP_TYPES, BadItem, Open, Source, Work
from modelhub.datasets.lists import Place
from modelhub.datasets.manifests import Item, Manifest
from modelhub.datasets.reports import Report, judge_counts, judge_leaks
from modelhub.datasets.splits import LEAST_STRATUM, SPLITS, TRAIN, VALIDATION

LIST_COLUMNS = {
    "file": ("path", "file", "audio", "audio_filepath"),
    "target": ("transcript", "text", "sentence"),
    "group": ("speaker", "group"),
}
MAX_TRANSCRIPT = 1_000
# Beyond these nobody speaks; a recording of a minute for one word is as doubtful.
MAX_CHARACTERS_A_SECOND = 40
FEWEST_CHARACTERS_A_SECOND = 0.2
TELEPHONE_RATE = 8_000
WAVE_WIDTH, WAVE_HEIGHT = 240, 48


class Speech:
    """The kind speech."""

    name = "speech"
    content_types: tuple[str, ...] = ZIP_TYPES
    layout = (
        "Expected sound files and transcripts.csv with the columns path, transcript and, if known, speaker and split; "
        "or the same as JSON Lines."
    )

    def read(self, source: Source, work: Work, report: Report) -> Manifest:
        with Archive(source.path, limits=work.limits) as archive:
            wrap = files.wrapping_folder(archive.entries)
            lines = _lines(archive, wrap, work, report, layout=self.layout)
            wanted = lists.placed(archive, lines, wrap=wrap, check=_check_transcript, report=report) if lines else []
            items = files.examined(
                archive, wanted, examine=lambda data, place: _examine(data, place, work), work=work, report=report
            )
        items = files.divided(
            items, work=work, report=report, stratum=lambda item: item.target, least_stratum=LEAST_STRATUM
        )
        return Manifest(kind=self.name, classes=(), items=tuple(items))

    def judge(self, manifest: Manifest, report: Report, *, open_file: Open, scratch: Path) -> None:
        report.count(Counter((item.split, "") for item in manifest.items), ())
        if not report.reasons:
            judge_counts(report, noun="recording")
        _judge(report, manifest.items)

    def preview(self, items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
        return [
            {"name": item.name, "sha256": item.sha256, "target": item.target, "group": item.group}
            | {"facts": dict(item.facts)}
            for item in items[:limit]
        ]


def waveform(data: bytes, *, max_seconds: float) -> bytes:
    """An SVG of the sound's envelope, the loudest sample as high as the picture. Raises sounds.NotASound."""
    low, high = sounds.envelope(sounds.decode(data, max_seconds=max_seconds), WAVE_WIDTH)
    scale = WAVE_HEIGHT / 2 / max(float(np.max(np.abs([low, high]))), 1e-6)
    middle = WAVE_HEIGHT / 2
    step = WAVE_WIDTH / len(low)
    lines = "".join(
        f"M{place * step:.1f} {middle - float(top) * scale:.1f}V{middle - float(bottom) * scale + 0.5:.1f}"
        for place, (bottom, top) in enumerate(zip(low, high, strict=True))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WAVE_WIDTH}" height="{WAVE_HEIGHT}" '
        f'viewBox="0 0 {WAVE_WIDTH} {WAVE_HEIGHT}"><path d="{lines}" stroke="#417690" fill="none"/></svg>'
    ).encode()


def _lines(archive: Archive, wrap: int, work: Work, report: Report, *, layout: str) -> list[tuple[str, lists.Listed]]:
    """The lines of all transcripts, each with the folder of its list."""
    found: list[tuple[str, lists.Listed]] = []
    listing = lists.those_in(archive, wrap=wrap)
    for entry in listing:
        try:
            lines = lists.read(archive, entry, names=LIST_COLUMNS, work=work, report=report)
        except BadItem as error:
            report.leave_out(entry.name, str(error))
            report.reasons.append(f"The transcripts {shown(entry.name)} cannot be used: {error}")
        else:
            found += [("/".join(entry.parts[wrap:-1]), line) for line in lines]
    if not listing:
        report.reasons.append(f"The zip file has no list of transcripts. {layout}")
    return found


def _check_transcript(place: Place) -> None:
    if not place.target:
        raise BadItem("Its transcript is empty.")
    if len(place.target) > MAX_TRANSCRIPT:
        raise BadItem(f"Its transcript has {len(place.target):,} characters; the limit is {MAX_TRANSCRIPT:,}.")
    strange = sorted({letter for letter in place.target if _cannot_be_said(letter)})
    if strange:
        raise BadItem(f"Its transcript has characters that nobody says: {', '.join(map(repr, strange[:5]))}.")


def _cannot_be_said(letter: str) -> bool:
    """Control characters, symbols such as pictographs, and what stands for bytes that were no text."""
    category = unicodedata.category(letter)
    return category[0] == "C" or category in ("So", "Zl", "Zp")


def _examine(data: bytes, place: Place, work: Work) -> Item:
    about = sounds.info(data)
    samples = sounds.decode(data, max_seconds=work.max_seconds)
    if sounds.silent(samples):
        raise BadItem("It is silent: none of its samples is louder than -60 dB.")
    facts: dict[str, int | float | str] = {
        "seconds": round(len(samples) / sounds.RATE, 3),
        "rate": about.rate,
        "channels": about.channels,
        "format": about.format,
        "hash": hashlib.blake2b((samples * 32767).astype("<i2").tobytes(), digest_size=8).hexdigest(),
    }
    if sounds.clipped(samples):
        facts["clipped"] = round(float(np.mean(np.abs(samples) >= sounds.FULL_SCALE)), 4)
    blob = work.staging.add(data)
    return Item(place.split, place.name, blob.sha256, blob.size, place.target, place.group, facts)


def _judge(report: Report, items: Sequence[Item]) -> None:
    report.content = _content(items)
    exact = alike.same(items, key=lambda item: str(item.facts["hash"]))
    report.duplicates = {"exact": alike.as_json(exact)}
    if report.reasons:
        return
    judge_leaks(
        report,
        noun="recording",
        contents=alike.leaks(exact),
        groups=alike.groups_across_splits(items),
        group="speaker",
    )
    _warn(report, items)


def _warn(report: Report, items: Sequence[Item]) -> None:
    for kind, some, words in (
        (
            "clipped",
            [i for i in items if "clipped" in i.facts],
            "recorded too loud: samples lie at the end of the scale",
        ),
        ("several-channels", [i for i in items if int(i.facts["channels"]) > 1], "of several channels, and are mixed"),
        (
            "low-rate",
            [i for i in items if int(i.facts["rate"]) < TELEPHONE_RATE],
            f"of fewer than {TELEPHONE_RATE:,} samples a second, too few for speech",
        ),
        (
            "too-fast",
            [i for i in items if _pace(i) > MAX_CHARACTERS_A_SECOND],
            f"too short for their transcripts: more than {MAX_CHARACTERS_A_SECOND} characters a second",
        ),
        (
            "too-slow",
            [i for i in items if _pace(i) < FEWEST_CHARACTERS_A_SECOND],
            f"very long for their transcripts: a character in more than {1 / FEWEST_CHARACTERS_A_SECOND:g} seconds",
        ),
    ):
        if some:
            are = "recordings are" if len(some) > 1 else "recording is"
            report.warn(kind, f"{len(some)} {are} {words}; for example {shown(some[0].name)}.")
    rates = {item.facts["rate"] for item in items}
    if len(rates) > 1:
        words = ", ".join(f"{rate:,}" for rate in sorted(map(int, rates)))
        report.warn("several-rates", f"The recordings have {words} samples a second; all are brought to one rate.")
    alphabet = {split: {letter for i in items if i.split == split for letter in i.target} for split in SPLITS}
    if unknown := sorted(alphabet[VALIDATION] - alphabet[TRAIN]):
        report.warn(
            "unknown-characters",
            f"These characters are in the transcripts of validation and not in those of train, so that they cannot be "
            f"learned: {', '.join(map(repr, unknown[:20]))}.",
        )


def _content(items: Sequence[Item]) -> dict[str, Any]:
    vocabulary, words, characters = tallies.Vocabulary(), tallies.Lengths(), tallies.Lengths()
    for item in items:
        vocabulary.add(item.target)
        words.add(len(item.target.split()))
        characters.add(len(item.target))
    return {
        "seconds": {split: tallies.spread(_seconds(items, split)) for split in SPLITS},
        "rates": tallies.most_frequent(Counter(item.facts["rate"] for item in items)),
        "channels": tallies.most_frequent(Counter(item.facts["channels"] for item in items)),
        "formats": tallies.most_frequent(Counter(item.facts["format"] for item in items)),
        "speakers": tallies.most_frequent(Counter(item.group for item in items if item.group)),
        "clipped": sum("clipped" in item.facts for item in items),
        "transcripts": {"words": words.as_json(), "characters": characters.as_json()},
        "vocabulary": vocabulary.as_json(),
        "alphabet": "".join(sorted({letter for item in items for letter in item.target})),
    }  # fmt: skip


def _seconds(items: Sequence[Item], split: str) -> list[float]:
    return [float(item.facts["seconds"]) for item in items if item.split == split]


def _pace(item: Item) -> float:
    return len(item.target) / max(float(item.facts["seconds"]), 0.01)
