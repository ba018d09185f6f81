"""What was answered, counted for each deployment and version: plain additions on the event loop."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

# Each power of two is cut into so many parts: a quantile is read to within 1/16 of its value.
PARTS = 8
BUCKETS = 27 * PARTS
Key = tuple[str, str, str]


def bucket(microseconds: int) -> int:
    """The histogram's bucket for a duration; the last one takes all above about a minute."""
    length = microseconds.bit_length()
    if length <= 3:
        return microseconds
    return min((length - 3) * PARTS + (microseconds >> (length - 4)) - PARTS, BUCKETS - 1)


def upper_bound(index: int) -> int:
    """The least duration in microseconds that is above the bucket."""
    if index < PARTS:
        return index + 1
    length, part = divmod(index, PARTS)
    return (PARTS + part + 1) << (length - 1)


def quantile(histogram: list[int], share: float) -> float | None:
    """The duration in milliseconds that so large a share of the requests stayed below; none of nothing."""
    total = sum(histogram)
    if not total:
        return None
    rank = share * total
    seen = 0
    for index, count in enumerate(histogram):
        seen += count
        if seen >= rank:
            return upper_bound(index) / 1000
    return upper_bound(BUCKETS - 1) / 1000


@dataclass(slots=True)
class Tally:
    """Counts of one version under one deployment since this process began. Durations in microseconds."""

    requests: int = 0
    rows: int = 0
    batches: int = 0
    batch_rows: int = 0
    failed: int = 0
    faults: int = 0
    queue_us: int = 0
    compute_us: int = 0
    total_us: int = 0
    failed_us: int = 0
    cache_hits: int = 0
    last_ms: int = 0
    histogram: list[int] = field(default_factory=lambda: no_counts())

    def answered(self, *, rows: int, queue_us: int, compute_us: int, total_us: int, at_ms: int) -> None:
        """A request was answered."""
        self.requests += 1
        self.rows += rows
        self.queue_us += queue_us
        self.compute_us += compute_us
        self.total_us += total_us
        self.last_ms = at_ms
        self.histogram[bucket(total_us)] += 1

    def refused(self, *, status: int, total_us: int) -> None:
        """A request came to a refusal; from 500 on it was no fault of its sender."""
        self.failed += 1
        self.faults += status >= 500
        self.failed_us += total_us

    def copy(self) -> "Tally":
        """The counts as they are now."""
        return replace(self, histogram=self.histogram[:])


def no_counts() -> list[int]:
    """An empty histogram."""
    return [0] * BUCKETS


@dataclass(slots=True)
class Totals:
    """Counts of the whole process, by status class and as histograms of microseconds, and of rows in a batch.

    `refusals` are by their slug, which a refusal's class has: there are no more than there are classes.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    abandoned: int = 0
    total_us: list[int] = field(default_factory=no_counts)
    queue_us: list[int] = field(default_factory=no_counts)
    compute_us: list[int] = field(default_factory=no_counts)
    batch_rows: list[int] = field(default_factory=no_counts)
    rows: int = 0

    def delivered(self, status: int, total_us: int) -> None:
        """An answer of any kind went out."""
        family = status // 100
        self.statuses[family] = self.statuses.get(family, 0) + 1
        self.total_us[bucket(total_us)] += 1

    def refused(self, slug: str) -> None:
        """A request came to a refusal of this kind."""
        self.refusals[slug] = self.refusals.get(slug, 0) + 1


class Statistics:
    """The tallies of this process."""

    def __init__(self) -> None:
        self.totals = Totals()
        self._tallies: dict[Key, Tally] = {}
        self._new: list[tuple[Key, Tally]] = []

    def of(self, key: Key) -> Tally:
        """The tally of a tenant's deployment and version, by (tenant's id, deployment's name, MODEL@NUMBER).

        No version stands for requests that were refused before one was chosen.
        """
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally()
            self._new.append((key, found))
        return found

    def has(self, key: Key, tally: Tally) -> bool:
        """Whether this is still the tally that counts for the key."""
        return self._tallies.get(key) is tally

    def taken_new(self) -> list[tuple[Key, Tally]]:
        """The tallies that were begun since the last call."""
        found, self._new = self._new, []
        return found

    def items(self) -> Iterator[tuple[Key, Tally]]:
        yield from list(self._tallies.items())

    def keep_only(self, keys: set[Key]) -> None:
        """Forgets what is deployed no longer."""
        named = {(tenant_id, name, "") for tenant_id, name, _ in keys}
        for key in self._tallies.keys() - keys - named:
            del self._tallies[key]
