"""The rows of a run, each the median of its rounds, and the table that shows ours beside every peer."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.load import Load
from benchmarks.peers.catalogue import WORKS
from benchmarks.peers.turns import Beside

OURS = "ours"
WIDTH = 18


def rows(found: Sequence[Beside]) -> list[dict[str, Any]]:
    """Ours first, then each peer; ratios are of rounds that were measured one right after the other."""
    result = []
    for work, connections in sorted({(one.work, one.connections) for one in found}, key=_order):
        rounds = [one for one in found if (one.work, one.connections) == (work, connections)]
        result.append(_row(OURS, rounds, lambda one: one.ours))
        for peer in dict.fromkeys(one.peer for one in rounds):
            beside = [one for one in rounds if one.peer == peer]
            ratios = [_ratio(one) for one in beside]
            result.append(
                _row(peer, beside, lambda one: one.theirs)
                | {
                    "setting": str(beside[0].setting),
                    "ours_per_second": _median([one.ours.per_second for one in beside], 1),
                    "ours_of_theirs": _median(ratios, 3),
                    "ours_of_theirs_min": round(min(ratios), 3),
                    "ours_of_theirs_max": round(max(ratios), 3),
                }
            )
    return result


def show(found: Sequence[Mapping[str, Any]], peers: Sequence[str], missing: Mapping[str, str]) -> None:
    """Prints the table, what is missing, and whether ours is ahead of each on every row."""
    print(f"\nrequests a second; beside each peer's, how many times as many ours did in the same rounds\n"
          f"{'work':10} {'conn.':>5} {OURS:>9}" + "".join(f"{peer:>{WIDTH}}" for peer in peers))  # fmt: skip
    for mine in (row for row in found if row["server"] == OURS):
        theirs = {row["server"]: row for row in found if _same(row, mine) and row["server"] != OURS}
        cells = "".join(f"{_cell(theirs.get(peer)):>{WIDTH}}" for peer in peers)
        print(f"{mine['work']:10} {mine['connections']:5} {mine['per_second']:9,.0f}{cells}")
    for peer, reason in missing.items():
        print(f"missing, {peer}: {reason}")
    print(verdict(found))


def verdict(found: Sequence[Mapping[str, Any]]) -> str:
    """Whether ours is ahead of each on every row that was measured, and where not."""
    measured = [row for row in found if row["server"] != OURS]
    errors = sum(row["errors"] for row in found if row["server"] == OURS)
    behind = [
        f"{row['server']} on {row['work']} at {row['connections']} ({row['ours_of_theirs']:.2f})"
        for row in measured
        if row["ours_of_theirs"] <= 1
    ]
    if not measured:
        return "no peer was measured"
    said = f"ours, with authentication, quota and metering on ({errors} errors), is "
    if behind:
        return said + f"not ahead of {', '.join(behind)}; it is on the other {len(measured) - len(behind)} rows"
    least = min(measured, key=lambda row: row["ours_of_theirs"])
    return said + (
        f"ahead of each on every row ({len(measured)}); least of {least['server']} on {least['work']} at "
        f"{least['connections']}: {least['ours_of_theirs']:.2f} times as many"
    )


def _row(server: str, rounds: Sequence[Beside], of: Callable[[Beside], Load]) -> dict[str, Any]:
    loads = [of(one) for one in rounds]
    return {
        "server": server,
        "work": rounds[0].work,
        "connections": rounds[0].connections,
        "per_second": _median([one.per_second for one in loads], 1),
        "p50_ms": _median([one.p50_ms for one in loads], 3),
        "p99_ms": _median([one.p99_ms for one in loads], 3),
        "errors": sum(one.errors for one in loads),
        "limit_per_second": _median([one.limit for one in rounds], 1),
    }


def _order(row: tuple[str, int]) -> tuple[int, int]:
    works = [work for works in WORKS.values() for work in works]
    return works.index(row[0]), row[1]


def _ratio(one: Beside) -> float:
    return one.ours.per_second / one.theirs.per_second if one.theirs.per_second else float("inf")


def _median(figures: Sequence[float], digits: int) -> float:
    return round(statistics.median(figures), digits)


def _same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(row["work"] == other["work"] and row["connections"] == other["connections"])


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    errors = f" {row['errors']}!" if row["errors"] else ""
    return f"{row['per_second']:,.0f} ({row['ours_of_theirs']:.2f}){errors}"
