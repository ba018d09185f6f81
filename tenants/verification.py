"""The proof: what was used, derived again from the archived segments, beside what the rollup says."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from typing import NamedTuple

from django.db import connection

from tenants import archive, scoping, usage
from tenants.models import Tenant

SEGMENT, HOUR = "segment", "hour"
# One statement, so that both are of the same moment though segments arrive meanwhile.
BOTH = f"""
SELECT '{HOUR}', hour, key, deployment, version, meter, quantity FROM tenants_usagehour
WHERE tenant_id = %(tenant)s AND hour >= %(start)s AND hour < %(end)s
UNION ALL
SELECT '{SEGMENT}', first_event_at, id, sha256, archived_as, '', 0 FROM tenants_usagesegment
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
    """What the archive says of a tenant's hours, and what the rollup says of them."""

    archived: dict[Sum, Decimal] = field(default_factory=dict)
    rollup: dict[Sum, Decimal] = field(default_factory=dict)
    segments: int = 0
    events: int = 0
    damaged: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[Difference]:
        sums = sorted({*self.archived, *self.rollup})
        found = [Difference(one, self.archived.get(one, Decimal(0)), self.rollup.get(one, Decimal(0))) for one in sums]
        return [one for one in found if one.archived != one.rollup]

    @property
    def equal(self) -> bool:
        """Whether every segment is as it was written, and the rollup is their sum."""
        return not self.damaged and not self.differences


def quantities_from_archive(*, tenant: Tenant, start: datetime, end: datetime) -> Evidence:
    """Reads every archived segment with events in [start, end), which are full hours, and adds up the tenant's."""
    evidence = Evidence()
    with scoping.operator(), localcontext(usage.EXACT), closing(connection.chunked_cursor()) as cursor:
        cursor.execute(BOTH, {"tenant": tenant.pk, "start": start, "end": end})
        for kind, moment, *rest in cursor:
            if kind == HOUR:
                evidence.rollup[Sum(moment.astimezone(UTC), *rest[:4])] = rest[4]
            else:
                _add_segment(evidence, tenant.pk, (start, end), *rest[:3])
    return evidence


def daily(quantities: Mapping[Sum, Decimal]) -> dict[tuple[str, date], Decimal]:
    """The quantities by meter and day, as `pricing.rate` takes them: from here an invoice is rated again."""
    days: dict[tuple[str, date], Decimal] = {}
    with localcontext(usage.EXACT):
        for one, quantity in quantities.items():
            day = (one.meter, one.hour.astimezone(UTC).date())
            days[day] = days.get(day, Decimal(0)) + quantity
    return days


def _add_segment(
    evidence: Evidence, tenant_id: str, period: tuple[datetime, datetime], segment_id: str, sha256: str, name: str
) -> None:
    evidence.segments += 1
    try:
        data = archive.load(name=name, sha256=sha256)
    except archive.Damaged as error:
        evidence.damaged.append(f"segment {segment_id}: {error}")
        return
    if tenant_id.encode() in data:
        rows, _ = usage.payloads(data)
        _add(evidence, [row for row in rows if row[2] == tenant_id], *(int(at.timestamp()) * 1000 for at in period))


def _add(evidence: Evidence, rows: Sequence[Sequence[object]], start_ms: int, end_ms: int) -> None:
    for _, at_ms, _, key, deployment, version, meters in rows:
        assert isinstance(at_ms, int)
        assert isinstance(meters, dict)
        if not start_ms <= at_ms < end_ms:
            continue
        evidence.events += 1
        hour = datetime.fromtimestamp(at_ms // usage.HOUR_MS * (usage.HOUR_MS // 1000), UTC)
        for name, quantity in meters.items():
            meter, exact = usage.stored(name, Decimal(quantity))
            one = Sum(hour, str(key), str(deployment), str(version), str(meter))
            evidence.archived[one] = evidence.archived.get(one, Decimal(0)) + exact
