"""What the check of an upload found: counts, what the content is like, and each bad item by name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelhub.datasets.archives import shown
from modelhub.datasets.splits import SPLITS, TRAIN, VALIDATION
from tenants.errors import Invalid

MAX_PROBLEMS = 100
MAX_KEPT = 10_000
MAX_REASONS = 10
MAX_EXAMPLES = 10
IMBALANCE = 10
MAX_CLASSES = 1_000
MAX_CLASS_NAME = 80


@dataclass(slots=True)
class Report:
    """What the check found; `reasons` say why the data set cannot be used, and are empty where it can."""

    splits: dict[str, dict[str, int]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    split: dict[str, Any] = field(default_factory=dict)
    good: int = 0
    bad: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    duplicates: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)

    def leave_out(self, name: str, problem: str) -> None:
        """Names an item that is not in the data set, and says why."""
        self.bad += 1
        if len(self.problems) < MAX_KEPT:
            self.problems.append({"name": name, "problem": problem})

    def warn(self, kind: str, detail: str) -> None:
        """Says what does not forbid training and makes its result doubtful."""
        self.warnings.append({"kind": kind, "detail": detail})

    def count(self, found: Mapping[tuple[str, str], int], classes: Iterable[str]) -> None:
        """Takes the number of good items by split and class; the classes are none where the kind has none."""
        names = sorted(classes)
        self.splits = {split: {name: found.get((split, name), 0) for name in names} for split in SPLITS}
        self.counts = {split: sum(n for (s, _), n in found.items() if s == split) for split in SPLITS}
        self.good = sum(self.counts.values())

    def as_json(self) -> dict[str, Any]:
        document = {
            "splits": self.splits,
            "counts": self.counts,
            "split": self.split,
            "good": self.good,
            "bad": self.bad,
            "problems": sorted(self.problems, key=lambda p: _in_order(p["name"]))[:MAX_PROBLEMS],
            "problems_left_out": max(0, self.bad - MAX_PROBLEMS),
            "warnings": self.warnings,
            "reasons": self.reasons[:MAX_REASONS],
            "duplicates": self.duplicates,
            "content": self.content,
        }
        storable: dict[str, Any] = _storable(document)
        return storable


class Unusable(Invalid):
    """No data set can be made of the upload; `report` holds what was found."""

    title, slug = "The upload cannot be used", "unusable-dataset"

    def __init__(self, report: Report) -> None:
        reasons = report.reasons[:MAX_REASONS]
        left_out = len(report.reasons) - len(reasons)
        super().__init__(" ".join(reasons) + (f" And {left_out} more reasons." if left_out else ""))
        self.report = report.as_json()


def judge_classes(report: Report, *, noun: str, needed: Mapping[str, int]) -> None:
    """Adds why these classes cannot be told apart, and what makes it doubtful that they can be."""
    names = sorted(report.splits[TRAIN])
    if len(names) < 2:
        report.reasons.append(f"There is one class only, {shown(*names)}; expected at least two.")
    if len(names) > MAX_CLASSES:
        report.reasons.append(
            f"There are {len(names):,} classes, the first {shown(names[0])}; the limit is {MAX_CLASSES:,}. "
            "Is this column the label?"
        )
        return
    for split in SPLITS:
        _judge_split(report, split, noun, needed[split])
    alike = _alike(names)
    if alike:
        words = "; ".join(" and ".join(map(shown, some)) for some in alike[:MAX_EXAMPLES])
        report.warn("labels-alike", f"These labels differ by case or spaces only, and count as classes: {words}.")
    counts = report.splits[TRAIN]
    if counts and not report.reasons:
        least, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
        if counts[most] > IMBALANCE * counts[least]:
            report.warn(
                "class-imbalance",
                f"train has {counts[most]} {noun}s of {shown(most)} and {counts[least]} of {shown(least)}: "
                f"more than {IMBALANCE} to 1.",
            )


def judge_counts(report: Report, *, noun: str) -> None:
    """Adds why so few items are too few, where there are no classes to be counted."""
    for split, needed in ((TRAIN, 2), (VALIDATION, 1)):
        if report.counts[split] < needed:
            good = report.counts[split]
            report.reasons.append(
                f"{split} has {good or 'no'} good {noun}{'s' * (good != 1)}; expected at least {needed}."
            )


def judge_leaks(report: Report, *, noun: str, contents: "Sequence[Leak]", groups: "Sequence[str]", group: str) -> None:
    """Warns of what stands on both sides: the same content, or the same group, as the kind calls it."""
    if contents:
        first = contents[0]
        report.warn(
            "duplicates-across-splits",
            f"{first.total} {noun}{'s are' if first.total > 1 else ' is'} in both splits, so the validation will look "
            f"better than it is; for example {shown(first.train)} and {shown(first.validation)}.",
        )
    if groups:
        report.warn(
            "groups-across-splits",
            f"{len(groups)} {group}{'s are' if len(groups) > 1 else ' is'} in both splits, for example "
            f"{shown(groups[0])}: the validation does not say how well others are understood.",
        )


@dataclass(frozen=True, slots=True)
class Leak:
    """One of `total` contents that are in both splits, by the names of two of its items."""

    train: str
    validation: str
    total: int


def _judge_split(report: Report, split: str, noun: str, needed: int) -> None:
    missing = [name for name, good in report.splits[split].items() if not good and not needed]
    if missing and split == VALIDATION:
        report.warn(
            "class-not-validated",
            f"validation has no {noun} of {len(missing)} of the classes, for example {shown(missing[0])}.",
        )
    for name, good in report.splits[split].items():
        if good < needed:
            report.reasons.append(
                f"{split} has {good or 'no'} good {noun}{'s' * (good != 1)} of the class {shown(name)}; "
                f"expected at least {needed}."
            )


def _alike(names: Iterable[str]) -> list[list[str]]:
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [some for some in same.values() if len(some) > 1]


def _in_order(name: str) -> list[tuple[int, str]]:
    """So that line 9 comes before line 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _storable(value: Any) -> Any:
    """The value without the characters that no JSON column of the database takes."""
    match value:
        case str():
            return value.replace("\0", "�").encode("utf-8", "replace").decode()
        case dict():
            return {_storable(name): _storable(each) for name, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
    return value
