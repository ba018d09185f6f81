"""Texts, each of one class: rows with the columns text and label."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelhub.datasets import row_reports, rows, tallies
from modelhub.datasets.archives import shown
from modelhub.datasets.kinds.base import ZIP_TYPES, BadItem, Open, Source, Work
from modelhub.datasets.manifests import Column, Item, Manifest
from modelhub.datasets.reports import MAX_CLASS_NAME, Report, judge_classes
from modelhub.datasets.row_intake import Taken
from modelhub.datasets.splits import SPLITS
from modelhub.datasets.spool import Spool

MAX_CHARACTERS = 20_000
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
NEEDED = {"train": 1, "validation": 0}


class Texts:
    """The kind text-classification."""

    name = "text-classification"
    content_types: tuple[str, ...] = ZIP_TYPES + rows.CONTENT_TYPES
    layout = "Expected CSV, TSV or JSON Lines with the columns text and label."

    def read(self, source: Source, work: Work, report: Report) -> Manifest:
        return rows.read(source, work, report, reading=_Reading(self.layout), kind=self.name)

    def judge(self, manifest: Manifest, report: Report, *, open_file: Open, scratch: Path) -> None:
        row_reports.judge(manifest, report, tally=_Tally(), open_file=open_file, scratch=scratch)

    def preview(self, items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
        return rows.first_lines(items, open_file=open_file, limit=limit)


class _Reading:
    noun = "text"
    headerless: tuple[str, ...] = ()
    reserves_group = True
    columns: tuple[Column, ...] = ()

    def __init__(self, layout: str) -> None:
        self._layout = layout
        self._text = self._label = ""

    def begin(self, columns: Sequence[str], *, reserved: Sequence[str], decimal_comma: bool) -> None:
        names = by_name(columns, wanted=("text", "label"), layout=self._layout)
        self._text, self._label = names["text"], names["label"]

    def take(self, values: Mapping[str, Any]) -> Taken:
        text = text_of(values, self._text, max_characters=MAX_CHARACTERS)
        return _taken(text, _label(values.get(self._label)))

    def line(self, values: dict[str, Any]) -> dict[str, Any]:
        return values


class _Tally:
    noun = "text"

    def __init__(self) -> None:
        self._characters = {split: tallies.Lengths() for split in SPLITS}
        self._words = {split: tallies.Lengths() for split in SPLITS}
        self._vocabulary = tallies.Vocabulary()

    def add(self, values: Mapping[str, Any], *, split: str) -> Taken:
        text = values["text"]
        self._characters[split].add(len(text))
        self._words[split].add(len(text.split()))
        self._vocabulary.add(text)
        return _taken(text, values["label"])

    def judge(self, report: Report, spool: Spool) -> None:
        report.content = {
            "characters": {split: lengths.as_json() for split, lengths in self._characters.items()},
            "words": {split: lengths.as_json() for split, lengths in self._words.items()},
            "vocabulary": self._vocabulary.as_json(),
        }
        judge_classes(report, noun="text", needed=NEEDED)
        if not report.counts["validation"] and not report.reasons:
            report.reasons.append("validation has no text: too few are there to be divided.")
        contradicted, examples = spool.conflicts()
        if contradicted:
            report.duplicates["contradicting"] = {"contents": contradicted, "examples": examples}
            report.warn(
                "contradicting-labels",
                f"{contradicted} text{'s have' if contradicted > 1 else ' has'} more than one label; for example "
                f"{' and '.join(map(shown, examples[0][:2]))}.",
            )


def _taken(text: str, label: str) -> Taken:
    return Taken({"text": text, "label": label}, label=label, near=tallies.normalised(text))


def by_name(columns: Sequence[str], *, wanted: Sequence[str], layout: str) -> dict[str, str]:
    """The columns that are wanted, as the file spells them. Raises BadItem if one is missing."""
    found = {name.strip().casefold(): name for name in columns}
    missing = [name for name in wanted if name not in found]
    if missing:
        there = ", ".join(map(shown, columns[:10])) + ("…" if len(columns) > 10 else "")
        raise BadItem(f"It has no column {' and no '.join(missing)}; it has {there}. {layout}")
    return {name: found[name] for name in wanted}


def text_of(values: Mapping[str, Any], column: str, *, max_characters: int) -> str:
    """The text in this column, without spaces around it. Raises BadItem if it is none, empty or too long."""
    text = values.get(column)
    if not isinstance(text, str):
        raise BadItem(f"Its {column} is {shown(str(text))}; expected a text.")
    text = text.strip()
    if not text:
        raise BadItem(f"Its {column} is empty.")
    if len(text) > max_characters:
        raise BadItem(f"Its {column} has {len(text):,} characters; the limit is {max_characters:,}.")
    if strange := CONTROL.search(text):
        raise BadItem(f"Its {column} has the control character {strange.group()!r}.")
    return text


def _label(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadItem(f"Its label is {shown(str(value))}; expected a text.")
    label = str(value).strip()
    if not label:
        raise BadItem("Its label is empty.")
    if len(label) > MAX_CLASS_NAME or not label.isprintable():
        raise BadItem(
            f"Its label is {shown(label)}; expected at most {MAX_CLASS_NAME} characters, all of them printable."
        )
    return label
