"""Rows on their way through the check: on disk, so that a file of any length takes the same memory."""

# The names of columns that are put into queries here are our own.
# ruff: noqa: S608

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modelhub.datasets import splits
from modelhub.datasets.splits import GROUP, MAX_GROUPS, TRAIN, VALIDATION, Indivisible, Split

BUFFERED = 1_000
CACHE_KIB = 16 * 1024
EXAMPLES = 10
FIELDS = "name, split, label, grp, digest, near, body"

SCHEMA = """
CREATE TABLE spooled (
    number INTEGER PRIMARY KEY, name TEXT, split TEXT, stratum TEXT, label TEXT, grp TEXT, digest BLOB, near BLOB,
    rank INTEGER, body BLOB
)
"""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A good row: its `digest` says what is the same, `near` what is nearly so; `split` is as given, or empty."""

    name: str
    split: str
    stratum: str
    group: str
    digest: bytes
    near: bytes
    body: bytes


class Spool:
    """A table of rows in a file of its own, for one thread."""

    def __init__(self, path: Path, *, seed: int) -> None:
        self._seed = seed
        self._buffer: list[Spooled] = []
        self.count = 0
        self.given = 0
        self._base = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", f"cache_size=-{CACHE_KIB}"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, row: Spooled) -> None:
        """Takes a row in."""
        self._buffer.append(row)
        if len(self._buffer) >= BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory."""
        rows = [
            (
                row.name, row.split, row.stratum, row.stratum, row.group, row.digest, row.near,
                splits.rank(seed=self._seed, content=row.near, name=row.name), row.body,
            )
            for row in self._buffer
        ]  # fmt: skip
        self._base.execute("BEGIN")
        self._base.executemany(
            "INSERT INTO spooled (name, split, stratum, label, grp, digest, near, rank, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._base.execute("COMMIT")
        self.count += len(rows)
        self.given += sum(bool(row.split) for row in self._buffer)
        self._buffer.clear()

    def remove(self, numbers: list[int]) -> None:
        """Takes rows out again."""
        self._base.executemany("DELETE FROM spooled WHERE number = ?", [(number,) for number in numbers])
        self.count -= len(numbers)

    def divide(self, split: Split) -> None:
        """Gives each row its split, by ratio within its stratum or by group. Raises Indivisible."""
        if split.by == GROUP:
            self._divide_by_group(split)
        else:
            self._divide_by_ratio(split)

    def all_rows(self) -> Iterator[tuple[int, Spooled]]:
        """The rows by number, in the order in which they came."""
        for number, *values in self._base.execute(f"SELECT number, {FIELDS} FROM spooled ORDER BY number"):
            yield number, Spooled(*values)

    def rows(self, split: str) -> Iterator[Spooled]:
        """The rows of a split, in the order in which they came."""
        query = f"SELECT {FIELDS} FROM spooled WHERE split = ? ORDER BY number"
        for values in self._base.execute(query, (split,)):
            yield Spooled(*values)

    def groups_across_splits(self) -> list[str]:
        """The first groups that are in both splits, sorted."""
        found = self._base.execute(
            "SELECT grp FROM spooled WHERE grp <> '' GROUP BY grp HAVING COUNT(DISTINCT split) > 1 "
            "ORDER BY grp LIMIT ?",
            (BUFFERED,),
        )
        return [group for (group,) in found]

    def same(self, column: str) -> tuple[int, int, list[list[str]]]:
        """(contents that are there several times, rows that have them, examples by name), by `digest` or `near`."""
        groups, rows = self._base.execute(
            f"SELECT COUNT(*), COALESCE(SUM(n), 0) FROM "
            f"(SELECT COUNT(*) AS n FROM spooled GROUP BY {_checked(column)} HAVING n > 1)"
        ).fetchone()
        return groups, rows, self._examples(column, "COUNT(*) > 1")

    def leaks(self, column: str) -> tuple[int, list[list[str]]]:
        """(contents that are in both splits, examples: the name of one in train, and of one in validation)."""
        condition = "COUNT(DISTINCT split) > 1"
        return self._count(column, condition), self._leaked(column)

    def conflicts(self) -> tuple[int, list[list[str]]]:
        """(contents that have several labels, examples by name)."""
        condition = "COUNT(DISTINCT label) > 1"
        return self._count("digest", condition), self._examples("digest", condition)

    def _count(self, column: str, condition: str) -> int:
        query = f"SELECT COUNT(*) FROM (SELECT 1 FROM spooled GROUP BY {_checked(column)} HAVING {condition})"
        return int(self._base.execute(query).fetchone()[0])

    def _examples(self, column: str, condition: str) -> list[list[str]]:
        keys = self._base.execute(
            f"SELECT {_checked(column)} FROM spooled GROUP BY 1 HAVING {condition} ORDER BY MIN(number) LIMIT ?",
            (EXAMPLES,),
        ).fetchall()
        query = f"SELECT name FROM spooled WHERE {column} = ? ORDER BY number LIMIT 5"
        return [[name for (name,) in self._base.execute(query, key)] for key in keys]

    def _leaked(self, column: str) -> list[list[str]]:
        query = f"""
            SELECT MIN(CASE split WHEN 'train' THEN number END), MIN(CASE split WHEN 'validation' THEN number END)
            FROM spooled GROUP BY {_checked(column)} HAVING COUNT(DISTINCT split) > 1 ORDER BY 1 LIMIT ?
        """
        pairs = self._base.execute(query, (EXAMPLES,)).fetchall()
        return [[self._name(number) for number in pair] for pair in pairs]

    def _name(self, number: int) -> str:
        return str(self._base.execute("SELECT name FROM spooled WHERE number = ?", (number,)).fetchone()[0])

    def _divide_by_ratio(self, split: Split) -> None:
        self._base.execute("CREATE INDEX by_rank ON spooled (stratum, rank, number)")
        self._base.execute("UPDATE spooled SET split = ?", (TRAIN,))
        counts = self._base.execute("SELECT stratum, COUNT(*) FROM spooled GROUP BY stratum").fetchall()
        for stratum, count in counts:
            self._base.execute(
                "UPDATE spooled SET split = ? WHERE number IN "
                "(SELECT number FROM spooled WHERE stratum = ? ORDER BY rank, number LIMIT ?)",
                (VALIDATION, stratum, self._cut(stratum, count, splits.quota(count, validation=split.validation))),
            )

    def _cut(self, stratum: str, count: int, wanted: int) -> int:
        if not wanted:
            return 0
        (near,) = self._base.execute(
            "SELECT near FROM spooled WHERE stratum = ? ORDER BY rank, number LIMIT 1 OFFSET ?", (stratum, wanted - 1)
        ).fetchone()
        least, most = self._base.execute(
            "SELECT MIN(rank), MAX(rank) FROM spooled WHERE stratum = ? AND near = ?", (stratum, near)
        ).fetchone()
        begin, end = self._base.execute(
            "SELECT COUNT(CASE WHEN rank < ? THEN 1 END), COUNT(*) FROM spooled WHERE stratum = ? AND rank <= ?",
            (least, stratum, most),
        ).fetchone()
        return splits.cut(wanted, begin=begin, end=end, count=count)

    def _divide_by_group(self, split: Split) -> None:
        sizes = dict(
            self._base.execute("SELECT grp, COUNT(*) FROM spooled GROUP BY grp LIMIT ?", (MAX_GROUPS + 1,)).fetchall()
        )
        if len(sizes) > MAX_GROUPS:
            raise Indivisible(f"There are more than {MAX_GROUPS:,} groups.")
        chosen = splits.validation_groups(sizes, split=split)
        self._base.execute("CREATE INDEX by_group ON spooled (grp)")
        self._base.execute("UPDATE spooled SET split = ?", (TRAIN,))
        self._base.executemany(
            "UPDATE spooled SET split = ? WHERE grp = ?", [(VALIDATION, group) for group in sorted(chosen)]
        )


def _checked(column: str) -> str:
    if column not in ("digest", "near"):
        raise ValueError(f"{column!r} is no column by which rows are compared")
    return column
