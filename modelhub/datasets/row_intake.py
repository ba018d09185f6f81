"""Files of rows taken in: each row judged by its kind and spooled, with the split and group that its file gives it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from modelhub.datasets import archives, readers, splits
from modelhub.datasets.archives import Archive, BadItem, Entry, shown
from modelhub.datasets.kinds.base import Source, Work
from modelhub.datasets.manifests import Column
from modelhub.datasets.readers import Form, Reader, Row
from modelhub.datasets.reports import Report
from modelhub.datasets.splits import GIVEN, GROUP
from modelhub.datasets.spool import Spool, Spooled

SPLIT_COLUMN, GROUP_COLUMN = "split", "group"
ROWS_BETWEEN_NEWS = 1_000
MAX_EXAMPLES = 3


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

    def begin(self, columns: Sequence[str], *, reserved: Sequence[str], decimal_comma: bool) -> None:
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


@dataclass(frozen=True, slots=True)
class _File:
    """A file of rows: its name in messages, the split that its path says, and what of all bytes came before it."""

    path: Path
    name: str
    form: Form
    split: str
    before: int
    total: int


@dataclass(slots=True)
class Intake:
    """The way of an upload's rows into the spool. What is left out is in the report."""

    work: Work
    report: Report
    reading: Reading
    spool: Spool
    encodings: dict[str, str] = field(default_factory=dict)
    formulas: list[str] = field(default_factory=list)
    formula_count: int = 0
    prefix: str = ""

    def read(self, source: Source) -> None:
        """Takes in all files of the upload. Raises archives.Unsafe."""
        if self.work.base is not None:
            # Rows that are added have names of their own, for a file of the same name may have been read before.
            self.prefix = f"added-{hashlib.sha256(self.work.base.as_bytes()).hexdigest()[:8]}/"
        if source.is_archive:
            with Archive(source.path, limits=self.work.limits) as archive:
                self._read_archive(archive)
        else:
            form = readers.CONTENT_TYPES[source.content_type]
            ending = next(ending for ending, each in readers.ENDINGS.items() if each is form)
            self._read_file(_File(source.path, f"body.{ending}", form, "", 0, source.path.stat().st_size))
        self.spool.flush()
        self._tell()

    def _read_archive(self, archive: Archive) -> None:
        files = [entry for entry in archive.entries if not entry.is_folder]
        done, total = 0, sum(entry.info.file_size for entry in files)
        for entry in files:
            self._read_entry(archive, entry, done, total)
            done += entry.info.file_size

    def _read_entry(self, archive: Archive, entry: Entry, done: int, total: int) -> None:
        form = readers.ENDINGS.get(entry.name.rpartition(".")[2].lower())
        if form is None:
            self.report.leave_out(entry.name, "It is no .csv, .tsv or .jsonl file, and was not read.")
            return
        path = self.work.scratch / "file"
        try:
            archive.copy(entry, path)
            self._read_file(_File(path, entry.name, form, _split_of(entry.parts), done, total))
        except archives.Unreadable as error:
            self.report.leave_out(entry.name, str(error))
        finally:
            path.unlink(missing_ok=True)

    def _read_file(self, file: _File) -> None:
        try:
            reader = Reader(file.path, form=file.form, headerless=() if file.form.quoted else self.reading.headerless)
            if reader.encoding not in ("utf-8", "utf-8-sig"):
                self.encodings[file.name] = reader.encoding
            self._read_rows(file, reader)
        except (readers.UnreadableFile, BadItem) as error:
            self.report.leave_out(file.name, str(error))

    def _read_rows(self, file: _File, reader: Reader) -> None:
        roles: _Roles | None = None
        for number, row in enumerate(reader):
            if number % ROWS_BETWEEN_NEWS == 0:
                self.work.progress(min(file.before + reader.position, file.total), max(file.total, 1))
            name = f"{self.prefix}{file.name}:{row.line}"
            try:
                if row.problem:
                    raise BadItem(row.problem)
                roles = roles or self._begin(reader)
                self._take(row, name, file.split, roles)
            except BadItem as error:
                if roles is None and not row.problem and file.form.delimiter:
                    raise
                self.report.leave_out(name, str(error))

        if roles is None and reader.columns:
            self._begin(reader)

    def _begin(self, reader: Reader) -> _Roles:
        """What the columns say, by the first good row; raises BadItem if some are missing."""
        columns, reader.columns = reader.columns, reader.columns if reader.form.delimiter else []
        roles = _Roles.of(columns, self.work, reserves_group=self.reading.reserves_group)
        self.reading.begin(columns, reserved=roles.reserved, decimal_comma=reader.delimiter == ";")
        reader.columns = columns
        return roles

    def _take(self, row: Row, name: str, given: str, roles: _Roles) -> None:
        split = given or (_named_split(row.values.get(roles.split)) if roles.split else "")
        group = splits.group_name(row.values.get(roles.group)) if roles.group else ""
        taken = self.reading.take(row.values)
        if any(_is_formula(value) for value in row.values.values()):
            self.formula_count += 1
            self.formulas += [name] if len(self.formulas) < MAX_EXAMPLES else []
        self.spool.add(Spooled(name, split, taken.label, group, *digests(taken), orjson.dumps(taken.values)))

    def _tell(self) -> None:
        for name, encoding in self.encodings.items():
            self.report.warn("encoding", f"{shown(name)} is not UTF-8; it was read as {encoding}.")
        if self.formula_count:
            self.report.warn(
                "formulas",
                f"{self.formula_count} row{'s have' if self.formula_count > 1 else ' has'} a text that a spreadsheet "
                f"takes for a formula, for example {shown(self.formulas[0])}; it is kept as text and not computed.",
            )


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
