"""The check of an upload: which pictures are good, and whether they are enough to train on."""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelhub import pictures, storage
from modelhub.datasets import archives, revisions
from modelhub.datasets.archives import Archive, Entry, Limits, shown
from modelhub.datasets.manifests import Item, Manifest
from tenants.errors import Invalid

SPLITS = ("train", "validation")
NEEDED = {"train": 2, "validation": 1}
MAX_CLASS_NAME = 80
IMBALANCE = 10
MAX_PROBLEMS = 100
MAX_REASONS = 10
LAYOUT = "Expected pictures in train/<class>/ and validation/<class>/."

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Report:
    """What the check found; `reasons` say why the data set cannot be used, and are empty where it can."""

    splits: dict[str, dict[str, int]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    good: int = 0
    bad: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "splits": self.splits,
            "good": self.good,
            "bad": self.bad,
            "problems": sorted(self.problems, key=lambda p: p["name"])[:MAX_PROBLEMS],
            "problems_left_out": max(0, len(self.problems) - MAX_PROBLEMS),
            "warnings": self.warnings,
            "reasons": self.reasons[:MAX_REASONS],
        }


class Unusable(Invalid):
    """No data set can be made of the upload; `report` holds what was found."""

    title, slug = "The upload cannot be used", "unusable-dataset"

    def __init__(self, report: Report) -> None:
        reasons = report.reasons[:MAX_REASONS]
        left_out = len(report.reasons) - len(reasons)
        super().__init__(" ".join(reasons) + (f" And {left_out} more reasons." if left_out else ""))
        self.report = report.as_json()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an entry belongs, and its name without the folder that wraps the splits."""

    split: str
    class_name: str
    name: str


def check(
    path: Path,
    *,
    kind: str,
    staging: storage.Staging,
    limits: Limits,
    max_pixels: int,
    progress: Progress,
    base: Manifest | None = None,
) -> tuple[Manifest, Report]:
    """Decodes every picture of the zip file at `path` and stages the good ones. Raises Unusable with the report.

    With a `base`, what is good is added to its items, and the sum of both is what must suffice.
    """
    report = Report()
    try:
        with Archive(path, limits=limits) as archive:
            wrap = _wrapping_folder(archive.entries)
            classes = _classes(archive.entries, wrap)
            items = _check_items(archive, wrap, report, staging, max_pixels, progress)
    except archives.Unsafe as refusal:
        report.reasons.append(refusal.detail)
        raise Unusable(report) from refusal
    items.sort(key=lambda item: item.name)
    manifest = Manifest(kind=kind, classes=tuple(sorted(classes)), items=tuple(items))
    if base is not None:
        manifest = revisions.combined(base, manifest)
    judge(manifest, report)
    if report.reasons:
        raise Unusable(report)
    return manifest, report


def judge(manifest: Manifest, report: Report) -> None:
    """Writes into the report what the items say by themselves: counts, warnings, and the reasons against using them."""
    _count(report, manifest.classes, manifest.items)
    report.reasons += _reasons(report, set(manifest.classes))
    if not report.reasons:
        report.warnings += _warnings(report, manifest.items)


def _wrapping_folder(entries: list[Entry]) -> int:
    """1 where a single folder wraps the splits, else 0."""
    tops = {entry.parts[0] for entry in entries}
    return int(len(tops) == 1 and tops.isdisjoint(SPLITS))


def _classes(entries: Iterable[Entry], wrap: int) -> set[str]:
    """The class names, those of empty folders too."""
    inside = ((entry, entry.parts[wrap:]) for entry in entries)
    return {
        parts[1]
        for entry, parts in inside
        if len(parts) == (2 if entry.is_folder else 3) and parts[0] in SPLITS and len(parts[1]) <= MAX_CLASS_NAME
    }


def _place(entry: Entry, wrap: int) -> _Place:
    parts = entry.parts[wrap:]
    if len(parts) != 3 or parts[0] not in SPLITS:
        raise archives.Unreadable("It lies outside train/<class>/ and validation/<class>/.")
    if len(parts[1]) > MAX_CLASS_NAME:
        raise archives.Unreadable(f"Its class has a name of more than {MAX_CLASS_NAME} characters.")
    return _Place(split=parts[0], class_name=parts[1], name="/".join(parts))


def _check_items(
    archive: Archive, wrap: int, report: Report, staging: storage.Staging, max_pixels: int, progress: Progress
) -> list[Item]:
    """Unpacks in this thread, decodes and writes in one for each core, with a few pictures in memory at once."""
    files = [entry for entry in archive.entries if not entry.is_folder]
    workers = os.cpu_count() or 1
    items: list[Item] = []
    waiting: deque[tuple[str, Future[Item]]] = deque()

    def take_oldest() -> None:
        name, future = waiting.popleft()
        try:
            items.append(future.result())
        except pictures.NotAPicture as error:
            report.problems.append({"name": name, "problem": error.detail})

    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        for done, entry in enumerate(files):
            progress(done, len(files))
            try:
                place = _place(entry, wrap)
                data = archive.read(entry)
            except archives.Unreadable as error:
                report.problems.append({"name": entry.name, "problem": str(error)})
                continue
            waiting.append((entry.name, pool.submit(_examine, data, place, staging, max_pixels)))
            if len(waiting) > 2 * workers:
                take_oldest()
        while waiting:
            take_oldest()
    return items


def _examine(data: bytes, place: _Place, staging: storage.Staging, max_pixels: int) -> Item:
    height, width = pictures.decode(data, max_pixels=max_pixels).shape[:2]
    blob = staging.add(data)
    return Item(place.split, place.class_name, place.name, blob.sha256, blob.size, height, width)


def _count(report: Report, classes: Iterable[str], items: Sequence[Item]) -> None:
    found = Counter((item.split, item.class_name) for item in items)
    report.splits = {split: {name: found[split, name] for name in sorted(classes)} for split in SPLITS}
    report.good, report.bad = len(items), len(report.problems)


def _reasons(report: Report, classes: set[str]) -> list[str]:
    if not classes:
        return [f"The zip file has no class folders. {LAYOUT}"]
    reasons = []
    if len(classes) < 2:
        reasons.append(f"There is one class only, {shown(*classes)}; expected at least two.")
    for split, needed in NEEDED.items():
        for name, good in report.splits[split].items():
            if good < needed:
                reasons.append(
                    f"{split} has {good or 'no'} good picture{'s' * (good != 1)} of the class {shown(name)}; "
                    f"expected at least {needed}."
                )
    return reasons


def _warnings(report: Report, items: Sequence[Item]) -> list[dict[str, str]]:
    """What does not forbid training and makes its result doubtful."""
    warnings = []
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        names[item.sha256].setdefault(item.split, item.name)
    leaked = [found for found in names.values() if len(found) > 1]
    if leaked:
        example = leaked[0]
        detail = (
            f"{len(leaked)} picture{'s are' if len(leaked) > 1 else ' is'} in both splits, so the validation will look "
            f"better than it is; for example {shown(example['train'])} and {shown(example['validation'])}."
        )
        warnings.append({"kind": "duplicates-across-splits", "detail": detail})
    counts = report.splits["train"]
    least, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    if counts[most] > IMBALANCE * counts[least]:
        detail = (
            f"train has {counts[most]} pictures of {shown(most)} and {counts[least]} of {shown(least)}: "
            f"more than {IMBALANCE} to 1."
        )
        warnings.append({"kind": "class-imbalance", "detail": detail})
    return warnings
