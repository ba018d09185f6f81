"""The audit trail to read: a tenant's rows by what was done, by whom, to what and when, and the same as a CSV file."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import QuerySet

from tenants.errors import Invalid
from tenants.models import AuditEvent, Tenant
from tenants.reports import csv_cells

CSV_ROWS = 50_000
CSV_COLUMNS = (
    "sequence", "id", "at", "actor", "verb", "subject", "detail", "address", "forwarded_for", "user_agent",
    "request_id", "previous_hash", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows: what is empty does not matter. `start` is the first moment, `end` the first one after."""

    verb: str = ""
    actor: str = ""
    subject: str = ""
    start: datetime | None = None
    end: datetime | None = None


def rows(*, tenant: Tenant, wanted: Filter) -> QuerySet[AuditEvent]:
    """The tenant's rows that are wanted, in no order."""
    found = AuditEvent.objects.for_tenant(tenant)
    for name in ("verb", "actor", "subject"):
        if value := getattr(wanted, name):
            found = found.filter(**{name: value})
    if wanted.start is not None:
        found = found.filter(at__gte=wanted.start)
    if wanted.end is not None:
        found = found.filter(at__lt=wanted.end)
    return found


def as_csv(*, tenant: Tenant, wanted: Filter) -> str:
    """The wanted rows, newest first; text that a spreadsheet would run as a formula is neutralised."""
    found = rows(tenant=tenant, wanted=wanted)
    count = found.count()
    if count > CSV_ROWS:
        raise Invalid(f"{count} rows are too many for one file; expected at most {CSV_ROWS}: narrow from and to.")
    return _csv(found.order_by("-id").iterator(chunk_size=2000))


def _csv(found: Iterable[AuditEvent]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for event in found:
        values = {name: getattr(event, name) for name in CSV_COLUMNS} | {
            "at": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "detail": json.dumps(event.detail, ensure_ascii=False),
        }
        writer.writerow([csv_cells.cell(value) for value in values.values()])
    return file.getvalue()
