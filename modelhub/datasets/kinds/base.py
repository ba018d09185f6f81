"""What a kind of data set is: how an upload is read, what is good in it, and what a look at it shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from modelhub import storage
from modelhub.datasets.archives import BadItem, Limits
from modelhub.datasets.manifests import Item, Manifest
from modelhub.datasets.reports import Report
from modelhub.datasets.splits import Split

ZIP_TYPES = ("application/zip", "application/octet-stream", "application/x-zip-compressed")

Progress = Callable[[int, int], None]
# Opens the stored file of this sha256.
Open = Callable[[str], BinaryIO]


@dataclass(frozen=True, slots=True)
class Source:
    """An upload on this machine, and the media type that it came with."""

    path: Path
    content_type: str = "application/zip"

    @property
    def is_archive(self) -> bool:
        return self.content_type in ZIP_TYPES


@dataclass(frozen=True, slots=True)
class Work:
    """What an upload is read with: where good items go, what is admitted, how the data set is to be divided.

    `columns` are the types of a table's columns that were given with the data set. `base` is what the upload is added
    to. `scratch` is a folder that is gone afterwards.
    """

    staging: storage.Staging
    scratch: Path
    limits: Limits
    max_pixels: int
    max_seconds: float
    progress: Progress
    split: Split = field(default_factory=Split)
    columns: Mapping[str, str] = field(default_factory=dict)
    base: Manifest | None = None


class Kind(Protocol):
    """A kind of data set; one file of this folder each. `layout` says in words how an upload is laid out."""

    name: str
    content_types: tuple[str, ...]
    layout: str

    def read(self, source: Source, work: Work, report: Report) -> Manifest:
        """Examines the upload and stages what is good; gives it with its splits, without the base.

        The report names what is left out, and has reasons where nothing can be made of the upload at all. Raises
        archives.Unsafe for a zip file that is refused as a whole.
        """
        ...

    def judge(self, manifest: Manifest, report: Report, *, open_file: Open, scratch: Path) -> None:
        """Writes down what the content is like, what is doubtful in it, and the reasons why it cannot be used."""
        ...

    def preview(self, items: Sequence[Item], *, open_file: Open, limit: int) -> list[dict[str, Any]]:
        """The first rows of a split as JSON, `limit` at most."""
        ...


__all__ = ["ZIP_TYPES", "BadItem", "Kind", "Open", "Progress", "Source", "Work"]
