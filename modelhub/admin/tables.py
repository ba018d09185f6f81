"""Tables on the admin's pages, drawn by `admin/modelhub/table.html`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A part of a report as it stands on a page."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    bars: Sequence[Mapping[str, float]] = ()
