"""A usage report as a CSV file: a header, and a line a sum, with the same columns whatever is grouped by."""

import csv
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from tenants.reports import csv_cells
from tenants.reports.report_tables import Writable
from tenants.reports.usage_reports import Total

HEADER = ("start", "end", "key", "key_name", "deployment", "model", "version", "meter", "quantity")


def write(rows: Iterable[Total], *, key_names: Mapping[str, str], into: Writable) -> None:
    """Writes the sums as they come; a group that was not asked for is an empty cell."""
    writer = csv.writer(into)
    writer.writerow(HEADER)
    cell = lru_cache(maxsize=10_000)(csv_cells.cell)  # Names come again in each bucket.
    start: datetime | None = None
    times = ("", "")
    for row in rows:
        if row.start is not start:
            start, times = row.start, (_iso(row.start), _iso(row.end))
        of = row.groups.get
        key = of("key")
        names = (key, key_names.get(key) if key else None, of("deployment"), of("model"), of("version"), of("meter"))
        writer.writerow((*times, *map(cell, names), plain(row.quantity)))


def plain(quantity: Decimal) -> str:
    """A number without an exponent and without zeros that say nothing."""
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
