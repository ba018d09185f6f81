"""The check of kinds whose items are rows of files: read, judged, divided and written anew as JSON Lines, in parts."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from modelhub.datasets import archives, readers, splits
from modelhub.datasets.archives import Archive, shown
from modelhub.datasets.kinds.base import BadItem, Open, Source, Work
from modelhub.datasets.manifests import Column, Item, Manifest
from modelhub.datasets.readers import Form, Reader, Row
from modelhub.datasets.reports import Report
from modelhub.datasets.splits import GIVEN, GROUP, SPLITS, Indivisible
from modelhub.datasets.spool import Spool, Spooled

PART_ROWS = 50_000
PART_BYTES = 64 * 1024**2
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"
ROWS_BETWEEN_NEWS = 1_000
CONTENT_TYPES = tuple(readers.CONTENT_TYPES)


@dataclass(frozen=True, slots=True)
class Taken:
    """A row that is good: what it says, its class, and the text by which it is nearly the same as another."""

    values: Mapping[str, Any]
    label: str = ""
    near: str = ""


class Reading(Protocol):
    """A kind's reading of one upload, row by row."""

    noun: str
    headerless: tuple[str, ...]
    # Whether a column called group is the group even where the data set is not divided by it.
    reserves_group: bool

    def begin(self, columns: Sequence[str], *, reserved: Sequence[str]) -> None:
        """A file begins that has these columns, of which the reserved ones say split and group. Raises BadItem."""
        ...

    def take(self, values: Mapping[str, Any]) -> Taken:
        """The row, if it is good. Raises BadItem."""
        ...

    def line(self, values: dict[str, Any]) -> dict[str, Any]:
        """What is stored of a row that was taken, once all were. Raises BadItem."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]: ...


@dataclass(slots=True)
class _Found:
    """What the files held besides their rows."""

    encodings: dict[str, str] = field(default_factory=dict)
    formulas: list[str] = field(default_factory=list)
    formula_count: int = 0


def read(source: Source, work: Work, report: Report, *, reading: Reading, kind: str) -> Manifest:
    """The rows of an upload, divided and staged in parts. Where they cannot be, the report has the reason."""
    work.scratch.mkdir(parents=True, exist_ok=True)
    items: list[Item] = []
    classes: set[str] = set()
    with Spool(work.scratch / "rows.sqlite", seed=work.split.seed) as spool:
        _read_all(source, work, report, reading, spool)
        _settle(reading, spool, report)
        if _divided(spool, work, report, noun=reading.noun):
            for split in SPLITS:
                items += _write_parts(spool, split, reading, work, classes)
    return Manifest(kind=kind, classes=tuple(sorted(classes)), items=tuple(items), columns=reading.columns)


def lines_of(items: Sequence[Item], *, open_file: Open) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row that these parts hold, as it is stored, with its split."""
    for item in items:
        with open_file(item.sha256) as content:
            for line in content:
                yield item.split, orjson.loads(line)


def first_lines(items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
    """The first rows that these parts hold, as they are stored."""
    return [values for _, values in islice(lines_of(items, open_file=open_file), limit)]


def _read_all(source: Source, work: Work, report: Report, reading: Reading, spool: Spool) -> None:
    found = _Found()
    if source.is_archive:
        with Archive(source.path, limits=work.limits) as archive:
            files = [entry for entry in archive.entries if not entry.is_folder]
            total = max(1, sum(entry.info.file_size for entry in files))
            done = 0
            for entry in files:
                form = readers.ENDINGS.get(entry.name.rpartition(".")[2].lower())
                if form is None:
                    report.leave_out(entry.name, "It is no .csv, .tsv or .jsonl file, and was not read.")
                    continue
                path = work.scratch / "file"
                try:
                    archive.copy(entry, path)
                    given = _split_of(entry.parts)
                    _read(path, entry.name, form, given, work, report, reading, spool, found, (done, total))
                except archives.Unreadable as error:
                    report.leave_out(entry.name, str(error))
                finally:
                    path.unlink(missing_ok=True)
                done += entry.info.file_size
    else:
        form = readers.CONTENT_TYPES[source.content_type]
        name = f"body.{next(ending for ending, each in readers.ENDINGS.items() if each is form)}"
        size = max(1, source.path.stat().st_size)
        _read(source.path, name, form, "", work, report, reading, spool, found, (0, size))
    spool.flush()
    _tell(found, report)


def _read(
    path: Path,
    name: str,
    form: Form,
    given: str,
    work: Work,
    report: Report,
    reading: Reading,
    spool: Spool,
    found: _Found,
    progress: tuple[int, int],
) -> None:
    """The rows of one file into the spool."""
    done, total = progress
    try:
        reader = Reader(path, form=form, headerless=reading.headerless if not form.quoted else ())
        if reader.encoding not in ("utf-8", "utf-8-sig"):
            found.encodings[name] = reader.encoding
        roles: _Roles | None = None
        for number, row in enumerate(reader):
            if number % ROWS_BETWEEN_NEWS == 0:
                work.progress(min(done + reader.position, total), total)
            if roles is None and reader.columns:
                roles = _Roles.of(reader.columns, work, reserves_group=reading.reserves_group)
                reading.begin(reader.columns, reserved=roles.reserved)
            _take(row, name, given, roles, report, reading, spool, found)
    except (readers.UnreadableFile, BadItem) as error:
        report.leave_out(name, str(error))


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which columns say the split and the group, by name; empty for none."""

    split: str
    group: str

    @classmethod
    def of(cls, columns: Sequence[str], work: Work, *, reserves_group: bool) -> "_Roles":
        by_name = {name.strip().casefold(): name for name in columns}
        wanted = work.split.column.strip().casefold()
        if wanted and wanted not in by_name:
            raise BadItem(f"It has no column {shown(work.split.column)}, which is to say the {work.split.by}.")
        by = work.split.by
        split = by_name.get((wanted if by == GIVEN else "") or SPLIT_COLUMN, "") if by in ("", GIVEN) else ""
        group = by_name.get((wanted if by == GROUP else "") or GROUP_COLUMN, "")
        if by != GROUP and not reserves_group:
            group = ""
        return cls(split, group)

    @property
    def reserved(self) -> tuple[str, ...]:
        return tuple(name for name in (self.split, self.group) if name)


def _take(
    row: Row,
    file: str,
    given: str,
    roles: _Roles | None,
    report: Report,
    reading: Reading,
    spool: Spool,
    found: _Found,
) -> None:
    name = f"{file}:{row.line}"
    if row.problem:
        report.leave_out(name, row.problem)
        return
    assert roles is not None
    try:
        split = given or _named_split(row.values.get(roles.split)) if roles.split else given
        group = str(row.values.get(roles.group) or "").strip() if roles.group else ""
        taken = reading.take(row.values)
    except BadItem as error:
        report.leave_out(name, str(error))
        return
    if any(_is_formula(value) for value in row.values.values()):
        found.formula_count += 1
        found.formulas += [name] if len(found.formulas) < 3 else []
    spool.add(Spooled(name, split, taken.label, group, *digests(taken), orjson.dumps(taken.values)))


def digests(taken: Taken) -> tuple[bytes, bytes]:
    """What makes a row the same as another, and what nearly so: what it says, without its label."""
    content = {name: value for name, value in taken.values.items() if name != "label"}
    exact = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    near = taken.near.encode() or exact
    return hashlib.blake2b(exact, digest_size=16).digest(), hashlib.blake2b(near, digest_size=16).digest()


def _named_split(value: Any) -> str:
    split = splits.named(str(value or ""))
    if split is None:
        raise BadItem(f"Its split is {shown(str(value or ''))}; expected train or validation.")
    return split


def _is_formula(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in "=@" and len(value) > 1 and (value[0] == "=" or "(" in value)


def _split_of(parts: Sequence[str]) -> str:
    """The split that a file's folders or name say."""
    for part in (*parts[:-1], parts[-1].rpartition(".")[0]):
        if split := splits.named(part):
            return split
    return ""


def _tell(found: _Found, report: Report) -> None:
    for name, encoding in found.encodings.items():
        report.warn("encoding", f"{shown(name)} is not UTF-8; it was read as {encoding}.")
    if found.formula_count:
        report.warn(
            "formulas",
            f"{found.formula_count} row{'s have' if found.formula_count > 1 else ' has'} a text that a spreadsheet "
            f"would take for a formula, for example {shown(found.formulas[0])}; it is kept as text and not computed.",
        )


def _settle(reading: Reading, spool: Spool, report: Report) -> None:
    """Leaves out the rows of tables that do not fit the types that their columns have, now that all were read."""
    if not reading.columns:
        return
    bad: list[int] = []
    for number, row in spool.all_rows():
        try:
            reading.line(orjson.loads(row.body))
        except BadItem as error:
            report.leave_out(row.name, str(error))
            bad.append(number)
    spool.remove(bad)


def _divided(spool: Spool, work: Work, report: Report, *, noun: str) -> bool:
    """Whether each row has its split now; else the report says why not."""
    if not spool.count:
        why = f" {shown(report.problems[0]['name'])}: {report.problems[0]['problem']}" if report.problems else ""
        report.reasons.append(f"The upload has no good {noun}.{why}")
        return False
    try:
        split = splits.way(work.split, given=spool.given > 0)
        if split.by == GIVEN:
            _leave_out_without_split(spool, report)
        else:
            spool.divide(split)
    except Indivisible as error:
        report.reasons.append(str(error))
        return False
    report.split = split.as_json()
    return True


def _leave_out_without_split(spool: Spool, report: Report) -> None:
    bad = []
    for number, row in spool.all_rows():
        if row.split:
            continue
        report.leave_out(row.name, "It has no split, and others have: expected train or validation.")
        bad.append(number)
    spool.remove(bad)


class _Part:
    """One stored file of rows, while it is written."""

    def __init__(self, work: Work, split: str, number: int) -> None:
        self.name = f"{split}/part-{number:04}.jsonl"
        self.rows = self.bytes = 0
        self._split = split
        self._work = work
        self._path = work.scratch / "part"
        self._file: BinaryIO = self._path.open("wb")

    def add(self, line: bytes) -> None:
        self._file.write(line)
        self.rows += 1
        self.bytes += len(line)

    def finished(self) -> Item:
        self._file.close()
        blob = self._work.staging.add(self._path)
        self._path.unlink()
        return Item(self._split, self.name, blob.sha256, blob.size, facts={"rows": self.rows})


def _write_parts(spool: Spool, split: str, reading: Reading, work: Work, classes: set[str]) -> list[Item]:
    """The parts of a split, numbered on from those of the base; adds the labels that they have to `classes`."""
    items: list[Item] = []
    first = _next_part(work.base, split)
    part = _Part(work, split, first)
    for row in spool.rows(split):
        values = reading.line(orjson.loads(row.body))
        more = {"group": row.group, "name": row.name} if row.group else {"name": row.name}
        part.add(orjson.dumps(values | more) + b"\n")
        classes.update({row.stratum} if row.stratum else ())
        if part.rows >= PART_ROWS or part.bytes >= PART_BYTES:
            items.append(part.finished())
            part = _Part(work, split, first + len(items))
    last = part.finished()
    return [*items, last] if last.rows else items


def _next_part(base: Manifest | None, split: str) -> int:
    """The number after the last that the base has; of those before, some may have been removed."""
    numbers = [int(item.name.rpartition("-")[2].partition(".")[0]) for item in base.of(split)] if base else []
    return max(numbers, default=-1) + 1
