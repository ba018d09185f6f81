"""The proof: what was used, derived again from the archived segments, beside what the rollup says."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import NamedTuple

from django.db import connection

from tenants import scoping
from tenants.ledger import archive, usage
from tenants.ledger.usage_totals import HOUR_MS
from tenants.models import Tenant

SEGMENT, HOUR = "segment", "hour"
# One statement, so that both are of the same moment though segments arrive meanwhile.
BOTH = f"""
SELECT '{HOUR}', hour, key, deployment, version, meter, quantity, false FROM tenants_usagehour
WHERE tenant_id = %(tenant)s AND hour >= %(start)s AND hour < %(end)s
UNION ALL
SELECT '{SEGMENT}', first_event_at, id, sha256, archived_as, '', 0, arrived_at > %(until)s FROM tenants_usagesegment
WHERE last_event_at >= %(start)s AND first_event_at < %(end)s
"""  # noqa: S608 (two words of this module)


class Sum(NamedTuple):
    """What a quantity of the rollup is the sum of."""

    hour: datetime
    key: str
    deployment: str
    version: str
    meter: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A sum on which the archive and the rollup do not agree."""

    sum: Sum
    archived: Decimal
    rollup: Decimal

    def __str__(self) -> str:
        hour, *series, meter = self.sum
        return (
            f"{hour:%Y-%m-%d %H}h, {meter} of {', '.join(filter(None, series)) or 'the tenant'}: "
            f"{self.archived.normalize():f} in the archive, {self.rollup.normalize():f} in the rollup"
        )


@dataclass(slots=True)
class Evidence:
    """What the archive says of a tenant's hours, and what the rollup says of them.

    `late` is what arrived after the moment that was asked about.
    """

    archived: dict[Sum, Decimal] = field(default_factory=dict)
    late: dict[Sum, Decimal] = field(default_factory=dict)
    rollup: dict[Sum, Decimal] = field(default_factory=dict)
    segments: int = 0
    events: int = 0
    damaged: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[Difference]:
        in_all = _added(self.archived, self.late)
        sums = sorted({*in_all, *self.rollup})
        found = [Difference(one, in_all.get(one, Decimal(0)), self.rollup.get(one, Decimal(0))) for one in sums]
        return [one for one in found if one.archived != one.rollup]

    @property
    def equal(self) -> bool:
        """Whether every segment is as it was written, and the rollup is their sum."""
        return not self.damaged and not self.differences


def quantities_from_archive(
    *, tenant: Tenant, start: datetime, end: datetime, until: datetime | None = None
) -> Evidence:
    """Reads every archived segment with events in [start, end), which are full hours, and adds up the tenant's.

    What arrived after `until` is kept apart.
    """
    evidence = Evidence()
    asked: dict[str, str | datetime] = {
        "tenant": tenant.pk,
        "start": start,
        "end": end,
        "until": until or datetime.max.replace(tzinfo=UTC),
    }
    with scoping.operator(), localcontext(usage.EXACT), closing(connection.chunked_cursor()) as cursor:
        cursor.execute(BOTH, asked)
        for kind, moment, *rest, late in cursor:
            if kind == HOUR:
                evidence.rollup[Sum(moment.astimezone(UTC), *rest[:4])] = rest[4]
            else:
                _add_segment(evidence, evidence.late if late else evidence.archived, tenant.pk, (start, end), *rest[:3])
    return evidence


def hourly(sums: Mapping[Sum, Decimal]) -> dict[tuple[str, datetime], Decimal]:
    """The quantities by meter and hour, as invoices are rated from."""
    hours: dict[tuple[str, datetime], Decimal] = {}
    with localcontext(usage.EXACT):
        for one, quantity in sums.items():
            hours[one.meter, one.hour] = hours.get((one.meter, one.hour), Decimal(0)) + quantity
    return hours


def _added(some: Mapping[Sum, Decimal], more: Mapping[Sum, Decimal]) -> dict[Sum, Decimal]:
    found = dict(some)
    with localcontext(usage.EXACT):
        for one, quantity in more.items():
            found[one] = found.get(one, Decimal(0)) + quantity
    return found


def _add_segment(
    evidence: Evidence, sums: dict[Sum, Decimal], tenant_id: str, period: tuple[datetime, datetime], segment_id: str,
    sha256: str, name: str,
) -> None:  # fmt: skip
    evidence.segments += 1
    try:
        data = archive.load(name=name, sha256=sha256)
    except archive.Damaged as error:
        evidence.damaged.append(f"segment {segment_id}: {error}")
        return
    if tenant_id.encode() in data:
        rows, _ = usage.payloads(data)
        own = [row for row in rows if row[2] == tenant_id]
        evidence.events += _add(sums, own, *(int(at.timestamp()) * 1000 for at in period))


def _add(sums: dict[Sum, Decimal], rows: Sequence[Sequence[object]], start_ms: int, end_ms: int) -> int:
    """Adds up the events that lie in the hours; how many those are."""
    events = 0
    for _, at_ms, _, key, deployment, version, meters in rows:
        assert isinstance(at_ms, int)
        assert isinstance(meters, dict)
        if not start_ms <= at_ms < end_ms:
            continue
        events += 1
        hour = datetime.fromtimestamp(at_ms // HOUR_MS * (HOUR_MS // 1000), UTC)
        for name, quantity in meters.items():
            meter, exact = usage.stored(name, Decimal(quantity))
            one = Sum(hour, str(key), str(deployment), str(version), str(meter))
            sums[one] = sums.get(one, Decimal(0)) + exact
    return events
