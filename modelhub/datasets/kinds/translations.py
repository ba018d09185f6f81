"""Pairs of a text and its translation: rows with the columns source and target, or two columns without names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelhub.datasets import row_reports, rows, tallies
from modelhub.datasets.kinds.base import ZIP_TYPES, BadItem, Open, Source, Work
from modelhub.datasets.kinds.texts import by_name, text_of
from modelhub.datasets.manifests import Column, Item, Manifest
from modelhub.datasets.reports import Report, judge_counts
from modelhub.datasets.row_intake import Taken
from modelhub.datasets.splits import SPLITS
from modelhub.datasets.spool import Spool

SIDES = ("source", "target")
MAX_CHARACTERS = 5_000
MAX_WORDS = 250
# Translations differ in length, hardly by more than this factor beyond a few words.
RATIO, FEW_WORDS = 4, 8


class Translations:
    """The kind translation."""

    name = "translation"
    content_types: tuple[str, ...] = ZIP_TYPES + rows.CONTENT_TYPES
    layout = "Expected TSV (source, tab, target), or CSV or JSON Lines with the columns source and target."

    def read(self, source: Source, work: Work, report: Report) -> Manifest:
        return rows.read(source, work, report, reading=_Reading(self.layout), kind=self.name)

    def judge(self, manifest: Manifest, report: Report, *, open_file: Open, scratch: Path) -> None:
        row_reports.judge(manifest, report, tally=_Tally(), open_file=open_file, scratch=scratch)

    def preview(self, items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
        return rows.first_lines(items, open_file=open_file, limit=limit)


class _Reading:
    noun = "pair"
    headerless: tuple[str, ...] = SIDES
    reserves_group = True
    columns: tuple[Column, ...] = ()

    def __init__(self, layout: str) -> None:
        self._layout = layout
        self._columns = dict(zip(SIDES, SIDES, strict=True))

    def begin(self, columns: Sequence[str], *, reserved: Sequence[str], decimal_comma: bool) -> None:
        self._columns = by_name(columns, wanted=SIDES, layout=self._layout)

    def take(self, values: Mapping[str, Any]) -> Taken:
        return _taken({side: self._side(values, side) for side in SIDES})

    def _side(self, values: Mapping[str, Any], side: str) -> str:
        text = text_of(values, self._columns[side], max_characters=MAX_CHARACTERS)
        words = len(text.split())
        if words > MAX_WORDS:
            raise BadItem(f"Its {side} has {words:,} words; the limit is {MAX_WORDS}.")
        return " ".join(text.split())

    def line(self, values: dict[str, Any]) -> dict[str, Any]:
        return values


class _Tally:
    noun = "pair"

    def __init__(self) -> None:
        self._words = {(side, split): tallies.Lengths() for side in SIDES for split in SPLITS}
        self._vocabulary = {side: tallies.Vocabulary() for side in SIDES}
        self._same = self._uneven = 0

    def add(self, values: Mapping[str, Any], *, split: str) -> Taken:
        lengths = []
        for side in SIDES:
            lengths.append(len(values[side].split()))
            self._words[side, split].add(lengths[-1])
            self._vocabulary[side].add(values[side])
        self._same += values["source"] == values["target"]
        self._uneven += max(lengths) > FEW_WORDS and max(lengths) > RATIO * min(lengths)
        return _taken({side: values[side] for side in SIDES})

    def judge(self, report: Report, spool: Spool) -> None:
        report.content = {
            side: {
                "words": {split: self._words[side, split].as_json() for split in SPLITS},
                "vocabulary": self._vocabulary[side].as_json(),
            }
            for side in SIDES
        }
        report.content |= {"untranslated": self._same, "uneven": self._uneven}
        judge_counts(report, noun="pair")
        if self._same:
            report.warn("untranslated", f"{_pairs(self._same)} the same text on both sides.")
        if self._uneven:
            report.warn(
                "uneven-pairs", f"{_pairs(self._uneven)} one side more than {RATIO} times as long as the other."
            )


def _taken(pair: dict[str, str]) -> Taken:
    return Taken(pair, near="\t".join(tallies.normalised(text) for text in pair.values()))


def _pairs(count: int) -> str:
    return "1 pair has" if count == 1 else f"{count:,} pairs have"
