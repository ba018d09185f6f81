"""Zip files from strangers: what their entries are called and hold, with every size counted and none believed."""

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from django.conf import settings

from tenants.errors import Invalid

END = struct.Struct("<4s4H2LH")  # end of central directory: …, entries in all, size, offset, comment's length
END_SIGNATURE = b"PK\x05\x06"
END64 = struct.Struct("<4sQ2H2L4Q")
END64_SIGNATURE = b"PK\x06\x06"
LOCATOR64_SIZE = 20
HEADER = struct.Struct("<4s24x3H12x")  # of an entry in the central directory: lengths of name, extra, comment
HEADER_SIGNATURE = b"PK\x01\x02"
MAX_COMMENT = 65535
MAX_HEADER_BYTES = 1024  # on average; what a data set's names and time stamps take is a tenth of it

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1 | 0x40 | 0x2000
MAX_NAME = 500
CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: control, half a surrogate pair, ends of lines
BOMB_RATIO = 100
CHUNK = 1024 * 1024
NOISE = {".DS_Store", "Thumbs.db", "desktop.ini"}
NOISE_FOLDER = "__MACOSX"

# What zipfile and zlib raise on a damaged file, beside BadZipFile.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, NotImplementedError)


class Unsafe(Invalid):
    """The zip file as a whole is refused; the text names the entry."""

    title, slug = "The zip file is refused", "unsafe-archive"


class BadItem(Exception):
    """One item is left out; the text says why. The others may be good."""


class Unreadable(BadItem):
    """One entry of the archive cannot be had."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold."""

    entries: int
    item_bytes: int
    unpacked_bytes: int


def limits_in_force() -> Limits:
    """The limits that the settings name."""
    return Limits(
        entries=settings.DATASET_MAX_ENTRIES,
        item_bytes=settings.DATASET_MAX_ITEM_BYTES,
        unpacked_bytes=settings.DATASET_MAX_UNPACKED_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the archive, or a folder; `parts` are the parts of its path."""

    parts: tuple[str, ...]
    is_folder: bool
    info: zipfile.ZipInfo

    @property
    def name(self) -> str:
        return "/".join(self.parts)


class Archive:
    """An open zip file whose entries are all safe to name; `read` counts what it unpacks."""

    def __init__(self, path: Path, *, limits: Limits) -> None:
        self.limits = limits
        self.unpacked = 0
        with path.open("rb") as content:
            _check_directory(content, limits)
        try:
            self._zip = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise Unsafe(f"The body is not a zip file that can be read: {error}.") from error
        try:
            self.entries = _entries(self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, entry: Entry) -> bytes:
        """The entry's bytes; Unreadable where it is damaged or too large, Unsafe where it unpacks beyond all limits."""
        info, limit = entry.info, self.limits.item_bytes
        self._check_compression(entry)
        try:
            with self._zip.open(info) as content:
                data = content.read(limit + 1)
        except DAMAGE as error:
            self._count(entry, min(info.file_size, limit))
            raise Unreadable(f"The entry is damaged: {error}.") from error
        self._count(entry, len(data))
        if len(data) > limit:
            raise Unreadable(f"It has more than {limit:,} bytes, the limit for one item.")
        return data

    def copy(self, entry: Entry, path: Path) -> None:
        """The entry as a file of its own, which may be larger than an item; raises as `read` does."""
        self._check_compression(entry)
        with path.open("wb") as copy:
            for chunk in self._chunks(entry):
                self._count(entry, len(chunk))
                copy.write(chunk)

    def _check_compression(self, entry: Entry) -> None:
        info = entry.info
        if info.compress_type not in METHODS:
            raise Unreadable(f"It is compressed by method {info.compress_type}; expected stored or deflated.")
        if info.file_size > max(self.limits.item_bytes, BOMB_RATIO * info.compress_size):
            raise Unsafe(
                f"The entry {shown(entry.name)} unpacks from {info.compress_size:,} bytes to {info.file_size:,}: "
                f"more than {BOMB_RATIO} times as much."
            )

    def _chunks(self, entry: Entry) -> Iterator[bytes]:
        try:
            with self._zip.open(entry.info) as content:
                while chunk := content.read(CHUNK):
                    yield chunk
        except DAMAGE as error:
            raise Unreadable(f"The entry is damaged: {error}.") from error

    def _count(self, entry: Entry, size: int) -> None:
        self.unpacked += size
        if self.unpacked > self.limits.unpacked_bytes:
            raise Unsafe(
                f"The zip file unpacks to more than {self.limits.unpacked_bytes:,} bytes; "
                f"the limit was passed at the entry {shown(entry.name)}."
            )


def shown(name: str) -> str:
    """A stranger's name, as it may stand in a message: quoted, escaped, and not too long."""
    text = name if len(name) <= 120 else name[:119] + "…"
    return repr(text)


def _check_directory(content: BinaryIO, limits: Limits) -> None:
    """Refuses too many entries before memory is taken for them: counts them as they lie, whatever the end claims."""
    claimed, start, size = _directory(content)
    if claimed > limits.entries:
        raise Unsafe(f"The zip file has {claimed:,} entries; the limit is {limits.entries:,}.")
    if size > limits.entries * MAX_HEADER_BYTES:
        raise Unsafe(f"The names in the zip file take {size:,} bytes; the limit for {limits.entries:,} is exceeded.")
    content.seek(start)
    directory = content.read(size)
    count = at = 0
    while at + HEADER.size <= size and directory[at : at + 4] == HEADER_SIGNATURE:
        at += HEADER.size + sum(HEADER.unpack_from(directory, at)[1:])
        count += 1
        if count > limits.entries:
            raise Unsafe(f"The zip file has more than {limits.entries:,} entries.")


def _directory(content: BinaryIO) -> tuple[int, int, int]:
    """(entries, offset, bytes) of the central directory: found the way zipfile finds it, so that both read the same."""
    length = content.seek(0, 2)
    tail_start = max(0, length - END.size - MAX_COMMENT - 1)
    content.seek(tail_start)
    tail = content.read()
    at = len(tail) - END.size
    if at < 0 or not tail.startswith(END_SIGNATURE, at) or tail[-2:] != b"\0\0":
        at = tail.rfind(END_SIGNATURE)
    if at < 0 or at + END.size > len(tail):
        raise Unsafe(f"The body is not a zip file, or not a whole one: none ends in these {length:,} bytes.")
    _, _, _, _, entries, size, _, _ = END.unpack_from(tail, at)
    end = tail_start + at
    before = end - LOCATOR64_SIZE - END64.size
    if before >= 0:
        content.seek(before)
        record = content.read(END64.size)
        if record.startswith(END64_SIGNATURE) and content.read(4) == b"PK\x06\x07":
            *_, entries, size, _ = END64.unpack(record)
            end = before
    if size > end:
        raise Unsafe(f"The zip file is damaged: its directory of {size:,} bytes does not fit into {length:,}.")
    return entries, end - size, size


def _entries(infos: list[zipfile.ZipInfo]) -> list[Entry]:
    """The files and folders, in the order in which they lie; what operating systems leave in zips is left out."""
    found: list[Entry] = []
    seen: set[tuple[str, ...]] = set()
    for info in sorted(infos, key=lambda i: i.header_offset):
        entry = _entry(info)
        if entry.parts in seen and not entry.is_folder:
            raise Unsafe(f"The zip file has two entries of the name {shown(entry.name)}.")
        seen.add(entry.parts)
        if NOISE_FOLDER not in entry.parts and entry.parts[-1] not in NOISE:
            found.append(entry)
    return found


def _entry(info: zipfile.ZipInfo) -> Entry:
    # `filename` ends at the first NUL, `orig_filename` is what the archive says.
    name = info.orig_filename
    if reason := _reason_to_refuse(name, info):
        raise Unsafe(f"The entry {shown(name)} {reason}.")
    is_folder = name.endswith("/")
    return Entry(parts=tuple(name.rstrip("/").split("/")), is_folder=is_folder, info=info)


def _reason_to_refuse(name: str, info: zipfile.ZipInfo) -> str | None:
    if len(name) > MAX_NAME:
        return f"has a name of {len(name):,} characters; the limit is {MAX_NAME}"
    if not name.isprintable() and any(unicodedata.category(letter) in CONTROL for letter in name):
        return "has a control character in its name"
    if "\\" in name:
        return "has a backslash in its name; expected / between folders"
    if name.startswith("/") or name[1:2] == ":":
        return "has an absolute path; expected one relative to the zip file"
    if not {"", ".", ".."}.isdisjoint(name.removesuffix("/").split("/")):
        return "has a path that leads elsewhere; expected plain names between the slashes"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link; expected files and folders only"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted; expected a zip file without a password"
    return None
