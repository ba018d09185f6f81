"""Sums of usage events that are added up while the events are written, so that nobody has to read them again."""

from collections.abc import Sequence

from tenants.ledger.usage_totals import HOUR_MS, MINUTE_MS, Quantity, Series, Totals

MINUTES_OF_AN_HOUR = HOUR_MS // MINUTE_MS
# When it happened and whose it is, then the rows, the microseconds of compute and the bytes of one answered request.
Counted = tuple[int, str, str, str, str, int, int, int]


class Sums:
    """The sums of a segment of answered requests. `size` is that of the segment, in bytes."""

    __slots__ = ("_by_minute", "_first_ms", "_last_ms", "size")

    def __init__(self) -> None:
        self._by_minute: dict[tuple[str, int, str, str, str], list[int]] = {}
        self._first_ms = self._last_ms = -1
        self.size = 0

    def add(self, counted: Sequence[Counted], size: int) -> None:
        """Adds requests whose frames have so many bytes together."""
        self.size += size
        by_minute = self._by_minute
        for at_ms, tenant, key, deployment, version, rows, compute_us, input_bytes in counted:
            place = (tenant, at_ms // MINUTE_MS, key, deployment, version)
            sums = by_minute.get(place)
            if sums is None:
                by_minute[place] = [1, rows, compute_us, input_bytes]
            else:
                sums[0] += 1
                sums[1] += rows
                sums[2] += compute_us
                sums[3] += input_bytes
            if at_ms > self._last_ms:
                self._last_ms = at_ms
            if at_ms < self._first_ms or self._first_ms < 0:
                self._first_ms = at_ms

    def totals(self) -> Totals:
        """What `usage` would make of the segment's events."""
        quantities: dict[Series, dict[str, Quantity]] = {}
        predictions: dict[tuple[str, int, str, str], int] = {}
        events = 0
        for (tenant, minute, key, deployment, version), sums in self._by_minute.items():
            requests, rows, compute_us, input_bytes = sums
            events += requests
            known = quantities.setdefault((tenant, minute // MINUTES_OF_AN_HOUR, key, deployment, version), {})
            for meter, quantity in (
                ("requests", requests), ("predictions", rows), ("compute_us", compute_us), ("input_bytes", input_bytes),
            ):  # fmt: skip
                known[meter] = known.get(meter, 0) + quantity
            place = (tenant, minute, key, deployment)
            predictions[place] = predictions.get(place, 0) + rows
        if not events:
            return Totals()
        return Totals(events, self._first_ms, self._last_ms, quantities, predictions)
