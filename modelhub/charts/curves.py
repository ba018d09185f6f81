"""Learning curves: each metric over the epochs, that of training beside that of validation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.charts import canvas

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 460, 260, 64, 44, 48
# What an epoch says of itself besides metrics.
NO_METRICS = ("epoch", "seconds", "rows_per_second", "learning_rate")
MAX_PANELS = 6

Points = Sequence[tuple[float, float]]


def curves(history: Sequence[Mapping[str, Any]], *, title: str, best_epoch: int | None = None) -> str:
    """A panel for each metric of a job's history; `val_NAME` is drawn with NAME. A value that is no number is a gap."""
    metrics = _metrics(history)
    if not metrics:
        return canvas.empty(title=title, words="There are no epochs to draw yet.")
    columns = min(2, len(metrics))
    parts, said = [canvas.text(16, 24, title, "head", most=100)], []
    for place, name in enumerate(metrics):
        series = {label: _points(history, label) for label in (name, f"val_{name}") if _points(history, label)}
        x, y = place % columns * WIDTH, 32 + place // columns * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(name, series, best_epoch), "</g>"]
        said += [f"{label}: {points[0][1]:.4g} to {points[-1][1]:.4g}" for label, points in series.items()]
    rows = math.ceil(len(metrics) / columns)
    return canvas.drawing(
        width=max(canvas.width_of(title, most=100), columns * WIDTH),
        height=40 + rows * HEIGHT,
        title=title,
        description=f"Over {len(history)} epochs, from the first to the last. {'; '.join(said)}.",
        parts=parts,
    )


def _metrics(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of what was measured, the loss first; each once, with or without a side of validation."""
    found: dict[str, None] = {}
    for epoch in history:
        for name, value in epoch.items():
            if name not in NO_METRICS and _is_number(value):
                found[name.removeprefix("val_")] = None
    return sorted(found, key=lambda name: (name != "loss", name))[:MAX_PANELS]


def _points(history: Sequence[Mapping[str, Any]], name: str) -> Points:
    return [
        (float(epoch.get("epoch", place)), float(epoch[name]))
        for place, epoch in enumerate(history, 1)
        if _is_number(epoch.get(name))
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _panel(name: str, series: Mapping[str, Points], best_epoch: int | None) -> list[str]:
    every = [point for points in series.values() for point in points]
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    low, high = _bounds([y for _, y in every])
    right, bottom = WIDTH - 20, HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        share = (x - first) / (last - first) if last > first else 0.5
        return LEFT + share * (right - LEFT), bottom - (y - low) / (high - low) * (bottom - TOP)

    parts = _axes(at, first, last, low, high)
    if best_epoch is not None and first <= best_epoch <= last:
        x = at(best_epoch, low)[0]
        parts.append(f'<path class="axis" stroke-dasharray="3 3" d="M{x:.1f},{TOP}V{bottom}"/>')
        parts.append(canvas.text(x, TOP - 4, f"best: {best_epoch}", "quiet", anchor="middle"))
    for place, (label, points) in enumerate(series.items()):
        line, dash = canvas.LINES[place], canvas.DASHES[place]
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in points)
        parts.append(f'<polyline class="{line}" stroke-dasharray="{dash}" points="{path}"/>')
        if len(points) <= 30:
            parts += ['<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>'.format(line, *at(*p)) for p in points]
        x = LEFT + place * 180
        parts.append(f'<path class="{line}" stroke-dasharray="{dash}" d="M{x},{TOP - 22}h24"/>')
        parts.append(canvas.text(x + 30, TOP - 18, label, most=22))
    return parts


def _axes(at: Any, first: float, last: float, low: float, high: float) -> list[str]:
    right, bottom = WIDTH - 20, HEIGHT - BOTTOM
    parts = []
    for step in range(5):
        y = low + (high - low) * step / 4
        row = at(first, y)[1]
        parts.append(f'<path class="grid" d="M{LEFT},{row:.1f}H{right}"/>')
        parts.append(canvas.text(LEFT - 6, row + 4, f"{y:.4g}", "quiet", anchor="end"))
    for x in sorted({round(first + (last - first) * step / 4) for step in range(5)}):
        parts.append(canvas.text(at(x, low)[0], bottom + 16, str(x), "quiet", anchor="middle"))
    parts.append(f'<path class="axis" d="M{LEFT},{TOP}V{bottom}H{right}"/>')
    parts.append(canvas.text((LEFT + right) / 2, bottom + 34, "epoch", "quiet", anchor="middle"))
    return parts


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest value, with room around them; never the same."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or max(abs(high) * 0.1, 1e-6)
    return low - room, high + room
