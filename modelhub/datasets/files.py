"""The check of kinds whose items are files: each examined by itself, several at a time, then divided and compared."""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from modelhub.datasets import archives, readers, splits
from modelhub.datasets.archives import Archive, Entry, shown
from modelhub.datasets.kinds.base import BadItem, Work
from modelhub.datasets.manifests import Item
from modelhub.datasets.readers import Reader
from modelhub.datasets.reports import MAX_EXAMPLES, Leak, Report
from modelhub.datasets.splits import GIVEN, SPLITS, TRAIN, VALIDATION, Indivisible
from tenants.errors import Refusal

MAX_DISTANCE = 3
HASH_BITS, BANDS = 64, 4
MAX_BUCKET = 2_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file belongs: its name in the data set, its target, and its split and group where they are given."""

    name: str
    target: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of a list of files: `line` names it in messages, `path` is the file as the list spells it."""

    line: str
    path: str
    target: str
    split: str
    group: str


# A file's bytes and its place into an item that is staged; raises BadItem or Refusal.
Examine = Callable[[bytes, Place], Item]


def examined(
    archive: Archive, wanted: Iterable[tuple[Entry, Place]], *, examine: Examine, work: Work, report: Report
) -> list[Item]:
    """Unpacks in this thread, examines in one for each core, with a few files in memory at once."""
    places = list(wanted)
    workers = os.cpu_count() or 1
    items: list[Item] = []
    waiting: deque[tuple[str, Future[Item]]] = deque()

    def take_oldest() -> None:
        name, future = waiting.popleft()
        try:
            items.append(future.result())
        except Refusal as error:
            report.leave_out(name, error.detail)
        except BadItem as error:
            report.leave_out(name, str(error))

    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        for done, (entry, place) in enumerate(places):
            work.progress(done, len(places))
            try:
                data = archive.read(entry)
            except archives.Unreadable as error:
                report.leave_out(entry.name, str(error))
                continue
            waiting.append((entry.name, pool.submit(examine, data, place)))
            if len(waiting) > 2 * workers:
                take_oldest()
        while waiting:
            take_oldest()
    return items


def listed(
    archive: Archive, entry: Entry, *, names: Mapping[str, Sequence[str]], work: Work, report: Report
) -> list[Listed]:
    """The lines of a list of files in the archive. `names` has for file, target and group what columns may be called.

    Raises BadItem if it cannot be read at all or lacks a column.
    """
    path = work.scratch / "list"
    work.scratch.mkdir(parents=True, exist_ok=True)
    found: list[Listed] = []
    try:
        archive.copy(entry, path)
        reader = Reader(path, form=readers.ENDINGS[_ending(entry.name)])
        columns: dict[str, str] = {}
        for row in reader:
            columns = columns or _columns(reader.columns, names, work)
            name = f"{entry.name}:{row.line}"
            if row.problem:
                report.leave_out(name, row.problem)
                continue
            found.append(_line(name, row.values, columns))
            if len(found) > work.limits.entries:
                raise BadItem(f"It has more than {work.limits.entries:,} lines.")
    except (readers.UnreadableFile, archives.Unreadable) as error:
        raise BadItem(str(error)) from error
    finally:
        path.unlink(missing_ok=True)
    if reader.encoding not in ("utf-8", "utf-8-sig"):
        report.warn("encoding", f"{shown(entry.name)} is not UTF-8; it was read as {reader.encoding}.")
    return found


def placed(
    archive: Archive,
    lines: Sequence[tuple[str, Listed]],
    *,
    wrap: int,
    check: Callable[[Place], None],
    report: Report,
) -> list[tuple[Entry, Place]]:
    """The files that the lines of lists name, each once; reports lines without a file and files without a line.

    `lines` are with the folder of their list; `check` raises BadItem for a place that is not good.
    """
    there = {"/".join(entry.parts[wrap:]): entry for entry in archive.entries if not entry.is_folder}
    found: dict[str, tuple[Entry, Place]] = {}
    named: set[str] = set()
    for folder, line in lines:
        try:
            entry, place = find(line, there, folder)
            if entry.name in named:
                raise BadItem(f"{shown(line.path)} is listed more than once.")
            named.add(entry.name)
            check(place)
            found[entry.name] = entry, place
        except BadItem as error:
            report.leave_out(line.line, str(error))
    for name, entry in there.items():
        if entry.name not in named and not is_list(entry):
            report.leave_out(name, "No line of the list names it.")
    return list(found.values())


def find(line: Listed, there: dict[str, Entry], folder: str) -> tuple[Entry, Place]:
    """The file that a line of a list names, beside the list or from the top. Raises BadItem."""
    path = line.path.removeprefix("./")
    name = next((n for n in (f"{folder}/{path}" if folder else path, path) if n in there), None)
    if name is None:
        raise BadItem(f"There is no file {shown(line.path)} in the zip file.")
    split = splits.named(line.split) if line.split else splits.named(folder) or ""
    if split is None:
        raise BadItem(f"Its split is {shown(line.split)}; expected train or validation.")
    return there[name], Place(name, line.target, split=split, group=line.group)


def lists_in(archive: Archive, *, wrap: int) -> list[Entry]:
    """The files of rows that lie at the top, or in a folder that is called as a split is."""
    return [
        entry
        for entry in archive.entries
        if not entry.is_folder
        and _ending(entry.name) in readers.ENDINGS
        and (len(entry.parts) == wrap + 1 or (len(entry.parts) == wrap + 2 and splits.named(entry.parts[wrap])))
    ]


def wrapping_folder(entries: Sequence[Entry]) -> int:
    """1 where a single folder wraps all that makes the layout, else 0."""
    tops = {entry.parts[0] for entry in entries}
    deep = any(len(entry.parts) > 2 or (len(entry.parts) == 2 and is_list(entry)) for entry in entries)
    return int(len(tops) == 1 and tops.isdisjoint(SPLITS) and deep)


def divided(
    items: list[Item], *, work: Work, report: Report, stratum: Callable[[Item], str], least_stratum: int = 0
) -> list[Item]:
    """The items with their splits; the report says how, or why they cannot be divided."""
    if not items:
        return items
    try:
        split = splits.way(work.split, given=any(item.split for item in items))
        if split.by == GIVEN:
            items = _with_split(items, report)
        else:
            items = splits.assigned(items, split=split, stratum=stratum, least_stratum=least_stratum)
    except Indivisible as error:
        report.reasons.append(str(error))
        return []
    report.split = split.as_json()
    return sorted(items, key=lambda item: item.name)


def same(items: Sequence[Item], *, key: Callable[[Item], str]) -> list[list[Item]]:
    """Items that have the same key, together; an empty key is like no other."""
    by_key: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if value := key(item):
            by_key[value].append(item)
    return [some for some in by_key.values() if len(some) > 1]


def near(items: Sequence[Item], *, key: Callable[[Item], int | None]) -> list[list[Item]]:
    """Items whose 64-bit hashes differ in at most three bits from one another's, chained together.

    Hashes that near have one of their four parts of 16 bits in common, so only those are compared.
    """
    hashes = [key(item) for item in items]
    leader = list(range(len(items)))

    def head(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    width = HASH_BITS // BANDS
    for band in range(BANDS):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, value in enumerate(hashes):
            if value is not None:
                buckets[value >> (band * width) & ((1 << width) - 1)].append(index)
        for bucket in buckets.values():
            some = bucket[:MAX_BUCKET]
            values = np.array([hashes[index] for index in some], np.uint64)
            for place in range(len(some) - 1):
                alike = np.bitwise_count(values[place + 1 :] ^ values[place]) <= MAX_DISTANCE
                for other in np.flatnonzero(alike):
                    leader[head(some[place + 1 + other])] = head(some[place])
    together: dict[int, list[Item]] = defaultdict(list)
    for index, item in enumerate(items):
        if hashes[index] is not None:
            together[head(index)].append(item)
    return [some for some in together.values() if len(some) > 1]


def as_json(groups: Sequence[Sequence[Item]]) -> dict[str, object]:
    """What the report says of items that are alike."""
    across = [pair for some in groups if (pair := _pair(some))]
    return {
        "contents": len(groups),
        "items": sum(map(len, groups)),
        "examples": [[item.name for item in some[:5]] for some in groups[:MAX_EXAMPLES]],
        "across_splits": len(across),
        "across_splits_examples": [list(pair) for pair in across[:MAX_EXAMPLES]],
    }


def leaks(groups: Sequence[Sequence[Item]]) -> list[Leak]:
    """The contents that are in both splits."""
    pairs = [pair for some in groups if (pair := _pair(some))]
    return [Leak(*pair, total=len(pairs)) for pair in pairs]


def groups_across_splits(items: Sequence[Item]) -> list[str]:
    """The groups that are in both splits, sorted."""
    sides: dict[str, set[str]] = defaultdict(set)
    for item in items:
        sides[item.group].add(item.split)
    return sorted(group for group, both in sides.items() if group and len(both) > 1)


def counted(items: Sequence[Item]) -> Counter[tuple[str, str]]:
    """How many items there are by split and target."""
    return Counter((item.split, item.target) for item in items)


def _pair(items: Sequence[Item]) -> tuple[str, str] | None:
    first = {split: next((i.name for i in items if i.split == split), None) for split in SPLITS}
    train, validation = first[TRAIN], first[VALIDATION]
    return (train, validation) if train is not None and validation is not None else None


def _with_split(items: list[Item], report: Report) -> list[Item]:
    for item in items:
        if not item.split:
            report.leave_out(item.name, "It has no split, and others have: expected train or validation.")
    return [item for item in items if item.split]


def _columns(columns: Sequence[str], names: Mapping[str, Sequence[str]], work: Work) -> dict[str, str]:
    """For file, target, group and split the name of their column in this list; those that are not there left out."""
    there = {name.strip().casefold(): name for name in columns}
    split = work.split
    own = {split.by: [split.column.strip().casefold()]} if split.column else {}
    wanted = {"split": own.get(GIVEN, ["split"]), **names, **{k: v for k, v in own.items() if k == splits.GROUP}}
    found = {
        role: there[next(name for name in some if name in there)]
        for role, some in wanted.items()
        if there.keys() & set(some)
    }
    missing = [names[role][0] for role in ("file", "target") if role not in found]
    if split.column and not there.keys() & {split.column.strip().casefold()}:
        missing.append(shown(split.column))
    if missing:
        raise BadItem(
            f"It has no column {' and no '.join(missing)}; it has {', '.join(map(shown, columns[:10]))}"
            f"{'…' * (len(columns) > 10)}."
        )
    return found


def _line(name: str, values: Mapping[str, object], columns: Mapping[str, str]) -> Listed:
    cells = {role: _text(values.get(column)) for role, column in columns.items()}
    return Listed(name, cells["file"], cells["target"], cells.get("split", ""), cells.get("group", ""))


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def is_list(entry: Entry) -> bool:
    """Whether it is a file of rows, by its name."""
    return not entry.is_folder and _ending(entry.name) in readers.ENDINGS
