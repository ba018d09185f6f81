"""What columns and texts are like, counted row by row in bounded memory."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_WORDS = 500_000
TOP = 20
WORD = re.compile(r"\w+(?:['’]\w+)*")
BINS = 20


@dataclass(slots=True)
class Lengths:
    """How long things are: whole numbers, counted exactly."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, length: int) -> None:
        self.counts[length] += 1

    def as_json(self) -> dict[str, float]:
        total = self.counts.total()
        if not total:
            return {}
        ordered = sorted(self.counts.items())
        return {
            "min": ordered[0][0],
            "mean": round(sum(length * n for length, n in ordered) / total, 2),
            "p50": _quantile(ordered, total, 0.5),
            "p95": _quantile(ordered, total, 0.95),
            "max": ordered[-1][0],
        }


@dataclass(slots=True)
class Vocabulary:
    """The words of texts, lower case, and how often each is there; beyond half a million new ones are not counted."""

    counts: Counter[str] = field(default_factory=Counter)
    full: bool = False

    def add(self, text: str) -> None:
        for word in words(text):
            if word in self.counts or len(self.counts) < MAX_WORDS:
                self.counts[word] += 1
            else:
                self.full = True

    def as_json(self) -> dict[str, Any]:
        return {
            "words": len(self.counts),
            "at_least": self.full,
            "once": sum(count == 1 for count in self.counts.values()),
            "most_frequent": _top(self.counts),
        }


@dataclass(slots=True)
class Numbers:
    """The least, the mean, the spread and the greatest of numbers, by Welford's method."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        change = value - self.mean
        self.mean += change / self.count
        self.squares += change * (value - self.mean)
        self.least, self.most = min(self.least, value), max(self.most, value)

    def as_json(self) -> dict[str, float]:
        if not self.count:
            return {}
        spread = math.sqrt(self.squares / self.count) if math.isfinite(self.squares) else 0.0
        figures = {"min": self.least, "mean": self.mean, "std": spread, "max": self.most}
        # Sums of the largest numbers that there are overflow; JSON in the database has no infinity.
        return {name: float(f"{value:.6g}") for name, value in figures.items() if math.isfinite(value)}


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return WORD.findall(text.casefold())


def normalised(text: str) -> str:
    """The text without what makes it only nearly the same as another: case, accents' forms, spaces, punctuation."""
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold())) or text.strip()


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The least, mean, median, 95th percentile, greatest and sum of some numbers, and their histogram."""
    if not values:
        return {}
    array = np.asarray(values, np.float64)
    counts, edges = np.histogram(array, bins=BINS)
    figures = {
        "min": array.min(), "mean": array.mean(), "p50": np.quantile(array, 0.5), "p95": np.quantile(array, 0.95),
        "max": array.max(), "total": array.sum(),
    }  # fmt: skip
    return {name: round(float(value), 3) for name, value in figures.items()} | {
        "histogram": {"from": round(float(edges[0]), 3), "to": round(float(edges[-1]), 3), "counts": counts.tolist()}
    }


def most_frequent(values: Counter[Any]) -> list[dict[str, Any]]:
    """The most frequent values and how often each is there."""
    return _top(values)


def _top(counts: Counter[Any]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:TOP]
    return [{"value": value, "count": count} for value, count in ordered]


def _quantile(ordered: Sequence[tuple[int, int]], total: int, share: float) -> int:
    seen = 0
    for length, count in ordered:
        seen += count
        if seen >= share * total:
            return length
    return ordered[-1][0]
