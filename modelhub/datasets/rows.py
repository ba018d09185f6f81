"""Data sets of rows: taken in, divided, and written anew as JSON Lines, in parts of which each is an item."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import orjson

from modelhub.datasets import readers, splits
from modelhub.datasets.archives import BadItem, shown
from modelhub.datasets.kinds.base import Open, Source, Work
from modelhub.datasets.manifests import Item, Manifest
from modelhub.datasets.reports import Report
from modelhub.datasets.row_intake import Intake, Reading
from modelhub.datasets.splits import GIVEN, SPLITS, Indivisible
from modelhub.datasets.spool import Spool

PART_ROWS = 50_000
PART_BYTES = 64 * 1024**2
CONTENT_TYPES = tuple(readers.CONTENT_TYPES)


def read(source: Source, work: Work, report: Report, *, reading: Reading, kind: str) -> Manifest:
    """The rows of an upload, divided and staged in parts. Where they cannot be, the report has the reason."""
    work.scratch.mkdir(parents=True, exist_ok=True)
    items: list[Item] = []
    classes: set[str] = set()
    with Spool(work.scratch / "rows.sqlite", seed=work.split.seed) as spool:
        Intake(work=work, report=report, reading=reading, spool=spool).read(source)
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
