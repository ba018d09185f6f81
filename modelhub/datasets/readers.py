"""Files of rows from strangers: CSV, TSV and JSON Lines, in whatever encoding, a row in memory at a time."""

import codecs
import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import charset_normalizer
import orjson

from modelhub.datasets.archives import shown

MAX_LINE = 4_000_000
MAX_FIELD = 1_000_000
MAX_COLUMNS = 2_000
CHUNK = 1024 * 1024
SAMPLE = 256 * 1024
REPLACED = "�"
USUAL = "cp1252"
DELIMITERS = ",;\t|"
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

# For the whole process: the default of 128 KiB refuses long texts, and none at all would let one quote take all memory.
csv.field_size_limit(MAX_FIELD)


class UnreadableFile(Exception):
    """No more rows can be had from this file; the text says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a file of rows is written; without a delimiter it is JSON Lines."""

    name: str
    delimiter: str = ""
    quoted: bool = False


CSV = Form("CSV", ",", quoted=True)
# A quotation mark stands for itself in a TSV file: corpora of texts are full of lone ones.
TSV = Form("TSV", "\t")
JSON_LINES = Form("JSON Lines")
ENDINGS = {"csv": CSV, "tsv": TSV, "jsonl": JSON_LINES, "ndjson": JSON_LINES}
CONTENT_TYPES = {
    "text/csv": CSV,
    "text/tab-separated-values": TSV,
    "application/x-ndjson": JSON_LINES,
    "application/jsonl": JSON_LINES,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row by the names of its columns, or what is wrong with it; `line` is where it begins."""

    line: int
    values: dict[str, Any]
    problem: str = ""


class Reader:
    """The rows of one file. `columns` are its header's names; `encoding` is what its bytes were read as.

    `headerless` are the names of the columns of a file without a header: one whose first row names none of them.
    """

    def __init__(self, path: Path, *, form: Form, headerless: Sequence[str] = ()) -> None:
        self.form = form
        self.encoding = encoding_of(path)
        self.columns: list[str] = []
        self.delimiter = form.delimiter
        self.extra_columns = 0
        self._path = path
        self._headerless = tuple(headerless)
        self._file: TextIO | None = None
        self._at = 0

    @property
    def position(self) -> int:
        """How many of the file's bytes have been read."""
        return self._file.buffer.tell() if self._file is not None else 0

    def __iter__(self) -> Iterator[Row]:
        with self._path.open(encoding=self.encoding, errors="replace", newline="") as self._file:
            yield from self._delimited() if self.form.delimiter else self._objects()
        self._file = None

    def _lines(self) -> Iterator[str]:
        assert self._file is not None
        while line := self._file.readline(MAX_LINE):
            self._at += 1
            if len(line) >= MAX_LINE and not line.endswith("\n"):
                raise UnreadableFile(f"Line {self._at} has more than {MAX_LINE:,} characters.")
            yield line

    def _objects(self) -> Iterator[Row]:
        for line in self._lines():
            if not line.strip():
                continue
            if REPLACED in line:
                yield Row(self._at, {}, _not_text(self.encoding))
                continue
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield Row(self._at, {}, f"It is no JSON: {error}.")
                continue
            if isinstance(values, dict) and values:
                if not self.columns:
                    self.columns = _checked_names(list(values))
                yield Row(self._at, values)
            else:
                yield Row(self._at, {}, f"It is {shown(line.strip()[:40])}; expected a JSON object with values.")

    def _delimited(self) -> Iterator[Row]:
        records = self._records()
        line, header = next(records, (0, "It is empty."))
        if isinstance(header, str):
            raise UnreadableFile(header)
        if self._is_header(header):
            self.columns = _header(header)
        else:
            self.columns, self.extra_columns = list(self._headerless), len(header) - len(self._headerless)
            yield self._row(line, header)
        for line, fields in records:
            yield Row(line, {}, fields) if isinstance(fields, str) else self._row(line, fields)

    def _is_header(self, fields: Sequence[str]) -> bool:
        names = {name.strip().casefold() for name in fields}
        return not self._headerless or not names.isdisjoint(self._headerless) or len(fields) < len(self._headerless)

    def _row(self, line: int, fields: Sequence[str]) -> Row:
        expected = len(self.columns) + self.extra_columns
        if len(fields) != expected:
            return Row(line, {}, f"It has {_fields(len(fields))}; expected {expected}, as in the first row.")
        if any(REPLACED in field for field in fields):
            return Row(line, {}, _not_text(self.encoding))
        return Row(line, dict(zip(self.columns, fields, strict=False)))

    def _records(self) -> Iterator[tuple[int, list[str] | str]]:
        """The fields of each record and the line where it begins, or what is wrong with it."""
        lines = self._lines()
        first = next(lines, "")
        if self.form.quoted:
            self.delimiter = delimiter_of(first)
        reader = csv.reader(
            itertools.chain([first] if first else [], lines),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.form.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        while True:
            begins = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "field limit" in str(error):
                    raise UnreadableFile(
                        f"A field that begins in line {begins} has more than {MAX_FIELD:,} characters. "
                        "Is a quotation mark opened there and never closed?"
                    ) from error
                yield begins, _wrong_quotes(str(error), begins, reader.line_num)
                continue
            if fields:
                yield begins, fields


def encoding_of(path: Path) -> str:
    """The encoding of a text file: by its byte order mark, UTF-8 if it is, else the likeliest.

    A UTF-8 file with some bad bytes stays one. Raises UnreadableFile for what is no text.
    """
    with path.open("rb") as content:
        start = content.read(SAMPLE)
        for mark, name in BOMS.items():
            if start.startswith(mark):
                return name
        if start.count(0) > len(start) // 4:
            return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
        content.seek(0)
        sample = _around_first_fault(content)
    if sample is None:
        return "utf-8"
    text = sample.decode("utf-8", "replace")
    faults = text.count(REPLACED)
    if 10 * faults <= sum(not letter.isascii() for letter in text):
        return "utf-8"
    matches = charset_normalizer.from_bytes(sample)
    best = matches.best()
    if best is None:
        raise UnreadableFile("It is no text in any encoding that is known; expected UTF-8.")
    # Many encodings of one byte a letter fit alike; most files that are not UTF-8 are of this one.
    usual = next((match for match in matches if USUAL in (match.encoding, *match.could_be_from_charset)), None)
    as_good = usual is not None and usual.chaos <= best.chaos + 0.02 and usual.coherence >= best.coherence - 0.1
    return USUAL if as_good else best.encoding


def delimiter_of(line: str) -> str:
    """What separates the fields of a CSV file, by its first line: a comma, unless another is there more often."""
    outside = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=lambda d: (outside.count(d), d == ","))


def _around_first_fault(content: Any) -> bytes | None:
    """The bytes around the first place that is not UTF-8; none where all is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = b""
    while chunk := content.read(CHUNK):
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            at = max(0, error.start - SAMPLE // 2)
            return bytes(before[-SAMPLE // 4 :] + chunk[at : at + SAMPLE])
        before = chunk
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return bytes(before[-SAMPLE:])
    return None


def _header(fields: Sequence[str]) -> list[str]:
    names = _checked_names([name.strip() for name in fields])
    return [name or f"column {position + 1}" for position, name in enumerate(names)]


def _checked_names(names: list[str]) -> list[str]:
    if len(names) > MAX_COLUMNS:
        raise UnreadableFile(f"It has {len(names):,} columns; the limit is {MAX_COLUMNS:,}.")
    for position, name in enumerate(names):
        if name in names[:position]:
            raise UnreadableFile(f"Two of its columns are called {shown(name)}; expected names that differ.")
        if not name.isprintable():
            raise UnreadableFile(f"Its column {position + 1} is called {shown(name)}; expected printable characters.")
        if len(name) > 200:
            raise UnreadableFile(f"The name of its column {position + 1} has {len(name):,} characters.")
    return names


def _wrong_quotes(error: str, begins: int, ends: int) -> str:
    if "unexpected end" in error:
        return (
            f"A quotation mark is opened there and never closed: all {ends - begins + 1:,} lines from there to the end "
            "of the file are part of it."
        )
    return f"Its quotation marks are wrong: {error}."


def _fields(count: int) -> str:
    return f"{count:,} field{'s' * (count != 1)}"


def _not_text(encoding: str) -> str:
    return f"It has bytes that are no text in {encoding}; expected UTF-8."
