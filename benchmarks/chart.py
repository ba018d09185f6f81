"""A chart of what was measured: pictures and requests a second against connections, and against the batch size."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN = 420, 260, 50
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7d4f9e")
Series = Mapping[str, Sequence[tuple[int, float]]]


def drawn(rows: Sequence[Mapping[str, Any]], batches: Mapping[int, float]) -> str:
    """An SVG of three panels side by side; each has its own scale, beginning at 0."""
    tiny = {"tiny-json": _by_connections(rows, "tiny-json")}
    pictures = {work: _by_connections(rows, work) for work in ("cnn-jpeg", "cnn-tensor")}
    panels = (
        ("Requests a second, tiny model", "connections", tiny),
        ("Pictures a second, seed CNN", "connections", pictures),
        ("Bare loop: decode + engine, all cores", "batch size", {"cnn-jpeg": sorted(batches.items())}),
    )
    body = "".join(_panel(number, *panel) for number, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


def _by_connections(rows: Sequence[Mapping[str, Any]], work: str) -> list[tuple[int, float]]:
    return sorted((row["connections"], row["per_second"]) for row in rows if row["work"] == work)


def _panel(number: int, title: str, below: str, series: Series) -> str:
    left, right = number * WIDTH + MARGIN, (number + 1) * WIDTH - 20
    top, bottom = 30, HEIGHT - 40
    steps = sorted({x for points in series.values() for x, _ in points})
    highest = max((y for points in series.values() for _, y in points), default=1.0) * 1.1

    def at(x: int, y: float) -> tuple[float, float]:
        share = steps.index(x) / max(1, len(steps) - 1)
        return left + share * (right - left), bottom - y / highest * (bottom - top)

    parts = [
        f'<text x="{left}" y="18" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{left},{top}V{bottom}H{right}" fill="none" stroke="#888"/>',
        f'<text x="{(left + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(below)}</text>',
    ]
    for x in steps:
        parts.append(f'<text x="{at(x, 0)[0]:.0f}" y="{bottom + 14}" text-anchor="middle">{x}</text>')
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        line = " ".join(f"{at(x, y)[0]:.1f},{at(x, y)[1]:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            column, row = at(x, y)
            parts.append(f'<circle cx="{column:.1f}" cy="{row:.1f}" r="3" fill="{colour}"/>')
            parts.append(
                f'<text x="{column:.1f}" y="{row - 7:.1f}" text-anchor="middle" fill="{colour}">{y:,.0f}</text>'
            )
        if points:
            column, row = at(*points[-1])
            parts.append(f'<text x="{column:.1f}" y="{row + 16:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    return "".join(parts)
