"""A figure beside what was wanted of it, as the benchmarks of the ledger print and write it."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; `wanted` is the least or the most that it should be, none where it stands for comparison."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether it is as wanted; none where nothing is."""
        for bound, compare in ((self.at_least, operator.ge), (self.at_most, operator.le)):
            if bound is not None:
                return bool(compare(self.value, bound))
        return None

    @property
    def wanted(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}"
        return "" if self.at_most is None else f"≤ {self.at_most:,g}"


def show(title: str, figures: Sequence[Figure]) -> None:
    """A table of them."""
    print(f"\n{title}\n")
    for one in figures:
        verdict = {None: "", True: "holds", False: "does not hold"}[one.holds]
        print(f"  {one.name:66} {one.value:14,.1f} {one.unit:10} {one.wanted:12} {verdict}")
