"""The chains of the audit trail, one for each tenant and the operators' own, followed from the first row to the end.

The database links the rows (migrations 0007 and 0012): `sequence` counts 1, 2, 3 … in each chain, `previous_hash` is
the hash of the row before ('' at the first), and `hash` is the sha256 of the row's other columns, written as a JSON
array of strings (`written`). What is computed here does not ask the database's own function.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection

from tenants.models import Tenant

ROWS_AT_ONCE = 2000
COLUMNS = (
    "previous_hash", "sequence", "id", "tenant_id", "at", "actor", "verb", "subject", "detail::text", "address",
    "forwarded_for", "user_agent", "request_id", "hash",
)  # fmt: skip
# One statement sees one moment: rows that are added meanwhile are in neither half.
CHAIN = f"""
SELECT {", ".join(f"event.{column}" for column in COLUMNS)}, head.sequence, head.hash
FROM (SELECT * FROM tenants_auditevent WHERE tenant_id = %s) AS event
FULL JOIN (SELECT * FROM tenants_audithead WHERE tenant_id = %s) AS head ON head.tenant_id = event.tenant_id
ORDER BY event.sequence NULLS LAST, event.id
"""  # noqa: S608
CHAIN_OF_OPERATORS = CHAIN.replace(
    "(SELECT * FROM tenants_auditevent WHERE tenant_id = %s)", "(SELECT *, '' AS tenant_id FROM tenants_operatorevent)"
).replace(
    "(SELECT * FROM tenants_audithead WHERE tenant_id = %s)", "(SELECT *, '' AS tenant_id FROM tenants_operatorhead)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it stands in the database, `detail` as PostgreSQL writes it."""

    previous_hash: str
    sequence: int | None
    id: str
    tenant_id: str
    at: datetime
    actor: str
    verb: str
    subject: str
    detail: str
    address: str
    forwarded_for: str
    user_agent: str
    request_id: str
    hash: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What following a chain found: how many rows are whole, the last one's hash, and the first fault if there is."""

    rows: int
    hash: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Head:
    sequence: int
    hash: str


def verify(*, tenant: Tenant | None) -> Chain:
    """Follows a tenant's chain, or the operators' own where there is none; the fault names the first row that was
    changed, removed, reordered or inserted.

    Needs operator scope, in a transaction.
    """
    rows, last = 0, ""
    head: _Head | None = None
    for row, end in _rows(tenant):
        head = end
        fault = row and _fault(row, expected=rows + 1, last=last)
        if fault:
            return Chain(rows, last, fault)
        if row:
            rows, last = rows + 1, row.hash
    return Chain(rows, last, _fault_of_end(rows, last, head))


def written(row: Row) -> bytes:
    """The canonical form of a row, of which its hash is the sha256: a JSON array of strings, no spaces, UTF-8."""
    moment = row.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    parts = (
        row.previous_hash, str(row.sequence), row.id, row.tenant_id, moment, row.actor, row.verb, row.subject,
        row.detail, row.address, row.forwarded_for, row.user_agent, row.request_id,
    )  # fmt: skip
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()


def _fault(row: Row, *, expected: int, last: str) -> str:
    """What is wrong with a row where the one of this number is expected."""
    name = f"{row.id} ({row.verb} of {row.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC)"
    if row.sequence is None:
        return f"Row {name} was inserted: it has no place in the chain."
    if row.sequence > expected:
        return f"Row number {expected} was removed: the next one is number {row.sequence}, {name}."
    if row.sequence < expected:
        return f"Row {name} was inserted: number {row.sequence} is there before it."
    if hashlib.sha256(written(row)).hexdigest() != row.hash:
        return f"Row number {row.sequence}, {name}, was changed or moved: its hash is not that of its contents."
    if row.previous_hash != last:
        return f"Row number {row.sequence}, {name}, does not follow the one before: rows were replaced or reordered."
    return ""


def _fault_of_end(rows: int, last: str, head: _Head | None) -> str:
    if head is None:
        return f"The head of the chain was removed; it should say {rows} rows."
    if head.sequence > rows:
        return f"Row number {rows + 1} and what follows were removed: the head says {head.sequence} rows."
    if (head.sequence, head.hash) != (rows, last):
        return (
            f"The head was changed: it says {head.sequence} rows ending in {head.hash or 'nothing'}, there are {rows}."
        )
    return ""


def _rows(tenant: Tenant | None) -> Iterator[tuple[Row | None, _Head | None]]:
    with connection.chunked_cursor() as cursor:
        if tenant is None:
            cursor.execute(CHAIN_OF_OPERATORS)
        else:
            cursor.execute(CHAIN, [tenant.pk, tenant.pk])
        while found := cursor.fetchmany(ROWS_AT_ONCE):
            for *columns, sequence, digest in found:
                row = None if columns[2] is None else Row(*columns)
                yield row, None if digest is None else _Head(sequence, digest)
