"""Numbers without gaps: a series a year, whose last number is locked until the transaction that takes one ends."""

from datetime import UTC, datetime

from django.db import connection

from tenants.models import NumberSeries

TAKE = """
INSERT INTO tenants_numberseries AS series (name, last) VALUES (%(name)s, %(count)s)
ON CONFLICT (name) DO UPDATE SET last = series.last + excluded.last RETURNING last
"""


def take(prefix: str, *, count: int, now: datetime) -> list[str]:
    """The next numbers of a series, as `INV-2026-000001`. Take them last in a transaction: others wait for its end."""
    if not count:
        return []
    name = f"{prefix}-{now.astimezone(UTC):%Y}"
    with connection.cursor() as cursor:
        cursor.execute(TAKE, {"name": name, "count": count})
        last = cursor.fetchone()[0]
    return [str(NumberSeries(name=name, last=number)) for number in range(last - count + 1, last + 1)]
