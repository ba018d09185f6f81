"""Lists of files in an archive: what each file's label or transcript is, and whether list and files agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from modelhub.datasets import archives, readers, splits
from modelhub.datasets.archives import Archive, BadItem, Entry, shown
from modelhub.datasets.kinds.base import Work
from modelhub.datasets.readers import Reader
from modelhub.datasets.reports import Report
from modelhub.datasets.splits import GIVEN, GROUP, Split


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


def those_in(archive: Archive, *, wrap: int) -> list[Entry]:
    """The files of rows that lie at the top, or in a folder that is called as a split is."""
    return [
        entry
        for entry in archive.entries
        if not entry.is_folder
        and _ending(entry.name) in readers.ENDINGS
        and (len(entry.parts) == wrap + 1 or (len(entry.parts) == wrap + 2 and splits.named(entry.parts[wrap])))
    ]


def read(
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
            columns = columns or _columns(reader.columns, names, work.split)
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
            entry, place = _find(line, there, folder)
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


def _find(line: Listed, there: dict[str, Entry], folder: str) -> tuple[Entry, Place]:
    """The file that a line of a list names, beside the list or from the top. Raises BadItem."""
    path = line.path.removeprefix("./")
    name = next((n for n in (f"{folder}/{path}" if folder else path, path) if n in there), None)
    if name is None:
        raise BadItem(f"There is no file {shown(line.path)} in the zip file.")
    split = splits.named(line.split) if line.split else splits.named(folder) or ""
    if split is None:
        raise BadItem(f"Its split is {shown(line.split)}; expected train or validation.")
    return there[name], Place(name, line.target, split=split, group=splits.group_name(line.group))


def is_list(entry: Entry) -> bool:
    """Whether it is a file of rows, by its name."""
    return not entry.is_folder and _ending(entry.name) in readers.ENDINGS


def _columns(columns: Sequence[str], names: Mapping[str, Sequence[str]], split: Split) -> dict[str, str]:
    """For file, target, group and split the name of their column in this list; those that are not there left out."""
    there = {name.strip().casefold(): name for name in columns}
    own = split.column.strip().casefold()
    wanted = {
        **names,
        "group": (own,) if own and split.by == GROUP else names["group"],
        "split": ((own,) if own else ("split",)) if split.by in ("", GIVEN) else (),
    }
    found = {role: next((there[name] for name in some if name in there), "") for role, some in wanted.items()}
    missing = [names[role][0] for role in ("file", "target") if not found[role]]
    missing += [shown(split.column)] if own and own not in there else []
    if missing:
        raise BadItem(
            f"It has no column {' and no '.join(missing)}; it has {', '.join(map(shown, columns[:10]))}"
            f"{'…' * (len(columns) > 10)}."
        )
    return {role: name for role, name in found.items() if name}


def _line(name: str, values: Mapping[str, object], columns: Mapping[str, str]) -> Listed:
    cells = {role: _text(values.get(column)) for role, column in columns.items()}
    return Listed(name, cells["file"], cells["target"], cells.get("split", ""), cells.get("group", ""))


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()
