"""Pictures, each of one class: in a folder for each class, or listed with their labels."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelhub import pictures
from modelhub.datasets import alike, files, lists, tallies
from modelhub.datasets.archives import Archive, Entry, shown
from modelhub.datasets.kinds.base import ZIP_TYPES, BadItem, Open, Source, Work
from modelhub.datasets.lists import Place
from modelhub.datasets.manifests import Item, Manifest
from modelhub.datasets.reports import MAX_CLASS_NAME, Report, judge_classes, judge_leaks
from modelhub.datasets.splits import SPLITS

NEEDED = {"train": 2, "validation": 1}
LIST_COLUMNS = {
    "file": ("file", "path", "filename", "image"),
    "target": ("label", "class"),
    "group": ("group",),
}
HASH_HEIGHT, HASH_WIDTH = 8, 9
THUMBNAIL = 96
TOP = 20


class Images:
    """The kind image-classification."""

    name = "image-classification"
    content_types: tuple[str, ...] = ZIP_TYPES
    layout = (
        "Expected pictures in train/<class>/ and validation/<class>/, or in <class>/, or a CSV file with the columns "
        "file and label beside them."
    )

    def read(self, source: Source, work: Work, report: Report) -> Manifest:
        with Archive(source.path, limits=work.limits) as archive:
            wanted, classes = _places(archive, work, report)
            items = files.examined(
                archive, wanted, examine=lambda data, place: _examine(data, place, work), work=work, report=report
            )
        items = files.divided(items, work=work, report=report, stratum=lambda item: item.target)
        return Manifest(kind=self.name, classes=tuple(sorted(classes)), items=tuple(items))

    def judge(self, manifest: Manifest, report: Report, *, open_file: Open, scratch: Path) -> None:
        report.count(files.counted(manifest.items), manifest.classes)
        if not manifest.classes:
            report.reasons.append(f"The zip file has no class folders. {self.layout}")
        elif not report.reasons:
            judge_classes(report, noun="picture", needed=NEEDED)
        _compare(report, manifest.items)

    def preview(self, items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
        return [
            {"name": item.name, "sha256": item.sha256, "target": item.target, "group": item.group}
            | {"facts": dict(item.facts)}
            for item in items[:limit]
        ]


def thumbnail(data: bytes, *, max_pixels: int) -> bytes:
    """A PNG of the picture, at most 96 pixels high and wide. Raises pictures.NotAPicture."""
    small = Image.fromarray(pictures.decode(data, max_pixels=max_pixels))
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    body = io.BytesIO()
    small.save(body, "PNG")
    return body.getvalue()


def difference_hash(pixels: pictures.Pixels) -> int | None:
    """64 bits that say where a picture gets brighter from left to right; none of a picture of one colour.

    Pictures that differ in size, compression or colour differ in a few bits. Krawetz, "Kind of Like That", 2013.
    """
    grey = Image.fromarray(pixels).convert("L").resize((HASH_WIDTH, HASH_HEIGHT), Image.Resampling.BOX)
    values = np.asarray(grey).astype(np.int16)
    if values.max() - values.min() < 2:
        return None
    return int.from_bytes(np.packbits(values[:, 1:] > values[:, :-1]).tobytes())


def _places(archive: Archive, work: Work, report: Report) -> tuple[list[tuple[Entry, Place]], set[str]]:
    """Each file and its place, and the class names, those of empty folders too; what has no place is reported."""
    entries = archive.entries
    wrap = files.wrapping_folder(entries)
    listing = lists.those_in(archive, wrap=wrap)
    if lines := _lines(archive, listing, wrap, work, report):
        return _listed(archive, lines, wrap, report)
    entries = [entry for entry in entries if entry not in listing]
    depth = 3 if any(entry.parts[wrap : wrap + 1] and entry.parts[wrap] in SPLITS for entry in entries) else 2
    places = list(_in_folders(entries, wrap, depth, report))
    return places, _classes(entries, wrap, depth)


def _in_folders(entries: Iterable[Entry], wrap: int, depth: int, report: Report) -> Iterator[tuple[Entry, Place]]:
    for entry in entries:
        parts = entry.parts[wrap:]
        if entry.is_folder:
            continue
        if len(parts) != depth or (depth == 3 and parts[0] not in SPLITS):
            where = "train/<class>/ and validation/<class>/" if depth == 3 else "<class>/"
            report.leave_out(entry.name, f"It lies outside {where}.")
        elif len(parts[-2]) > MAX_CLASS_NAME:
            report.leave_out(entry.name, f"Its class has a name of more than {MAX_CLASS_NAME} characters.")
        else:
            yield entry, Place("/".join(parts), parts[-2], split=parts[0] if depth == 3 else "")


def _classes(entries: Iterable[Entry], wrap: int, depth: int) -> set[str]:
    inside = ((entry, entry.parts[wrap:]) for entry in entries)
    return {
        parts[depth - 2]
        for entry, parts in inside
        if len(parts) == (depth - 1 if entry.is_folder else depth)
        and (depth == 2 or parts[0] in SPLITS)
        and len(parts[depth - 2]) <= MAX_CLASS_NAME
    }


def _lines(
    archive: Archive, listing: list[Entry], wrap: int, work: Work, report: Report
) -> list[tuple[str, lists.Listed]]:
    """The lines of those lists that name files and labels, each with the folder of its list."""
    found = []
    for entry in listing:
        try:
            lines = lists.read(archive, entry, names=LIST_COLUMNS, work=work, report=report)
        except BadItem as error:
            report.leave_out(entry.name, str(error))
        else:
            found += [("/".join(entry.parts[wrap:-1]), line) for line in lines]
    return found


def _listed(
    archive: Archive, lines: list[tuple[str, lists.Listed]], wrap: int, report: Report
) -> tuple[list[tuple[Entry, Place]], set[str]]:
    places = lists.placed(archive, lines, wrap=wrap, check=_labelled, report=report)
    return places, {place.target for _, place in places}


def _labelled(place: Place) -> None:
    if not place.target:
        raise BadItem(f"{shown(place.name)} has no label.")
    if len(place.target) > MAX_CLASS_NAME or not place.target.isprintable():
        raise BadItem(f"{shown(place.name)} has the label {shown(place.target)}; expected at most {MAX_CLASS_NAME} "
                      "printable characters.")  # fmt: skip


def _examine(data: bytes, place: Place, work: Work) -> Item:
    pixels = pictures.decode(data, max_pixels=work.max_pixels)
    height, width = pixels.shape[:2]
    value = difference_hash(pixels)
    facts: dict[str, int | float | str] = {"height": height, "width": width}
    if value is not None:
        facts["hash"] = f"{value:016x}"
    blob = work.staging.add(data)
    return Item(place.split, place.name, blob.sha256, blob.size, place.target, place.group, facts)


def _compare(report: Report, items: Sequence[Item]) -> None:
    """What the pictures are like, which are alike, and what stands on both sides."""
    report.content = _content(items)
    exact = alike.same(items, key=lambda item: item.sha256)
    near = alike.near(items, key=lambda item: int(str(item.facts["hash"]), 16) if "hash" in item.facts else None)
    report.duplicates = {"exact": alike.as_json(exact), "near": alike.as_json(near)}
    if report.reasons:
        return
    leaked, leaks = alike.leaks(exact), alike.leaks(near)
    groups = alike.groups_across_splits(items)
    judge_leaks(report, noun="picture", contents=leaked, groups=groups, group="group")
    if len(leaks) > len(leaked):
        report.warn(
            "near-duplicates-across-splits",
            f"{len(leaks)} pictures are in both splits but for their size or compression; for example "
            f"{shown(leaks[0].train)} and {shown(leaks[0].validation)}.",
        )
    _judge_labels(report, [some for some in exact if len({item.target for item in some}) > 1])


def _judge_labels(report: Report, contradicting: Sequence[Sequence[Item]]) -> None:
    if contradicting:
        names = [item.name for item in contradicting[0][:2]]
        report.warn(
            "contradicting-labels",
            f"{len(contradicting)} picture{'s have' if len(contradicting) > 1 else ' has'} more than one label; for "
            f"example {' and '.join(map(shown, names))}.",
        )


def _content(items: Sequence[Item]) -> dict[str, Any]:
    sizes = Counter((int(item.facts["width"]), int(item.facts["height"])) for item in items)
    return {
        "resolutions": [
            {"width": width, "height": height, "pictures": count}
            for (width, height), count in sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP]
        ],
        "width": tallies.spread([float(item.facts["width"]) for item in items]),
        "height": tallies.spread([float(item.facts["height"]) for item in items]),
    }
