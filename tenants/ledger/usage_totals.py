"""What a segment of usage events comes to: its sums by series and hour, and its predictions by minute."""

from dataclasses import dataclass, field
from decimal import Decimal

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
Quantity = int | Decimal
Series = tuple[str, int, str, str, str]  # tenant, hours since 1970, key, deployment, version


@dataclass(slots=True)
class Totals:
    """The sums of a segment."""

    events: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    quantities: dict[Series, dict[str, Quantity]] = field(default_factory=dict)
    predictions: dict[tuple[str, int, str, str], int] = field(default_factory=dict)  # tenant, minute, key, deployment
